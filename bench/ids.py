"""Transaction ids for load: valid UUIDv7, made cheaply, never the same twice."""

__all__ = ["uuid7_bytes"]

COUNTER_MAX = 2**46 - 1


def uuid7_bytes(time_ms: int, salt: int, counter: int) -> bytes:
    """Make the 16 bytes of a UUIDv7: ids of one millisecond and one salt ascend with the counter.

    `salt` (0 to 4,095) keeps apart what runs at the same time; `counter` is below 2^46.
    """
    if not (0 <= salt < 4_096 and 0 <= counter <= COUNTER_MAX):
        raise ValueError(f"salt {salt} or counter {counter} does not fit into an id")
    return (
        time_ms.to_bytes(6, "big")
        + (0x7000 | salt).to_bytes(2, "big")
        # Two variant bits, then sixty-two that we may choose.
        + (1 << 63 | counter).to_bytes(8, "big")
    )
