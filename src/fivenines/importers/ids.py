"""Transaction ids that are the same each time the same row is imported.

An id is a UUIDv7 (RFC 9562). Its time is that of the first import of the books, so a rerun makes the same id, and the
ledger's retention window counts from that import. Its 74 free bits are

    36 bits  sequence: from the row's own content (date, account), so that ids ascend as the books do, which the
             ledger's memory of ids likes, yet do not depend on which other rows are in the files
    38 bits  a hash of the importer's name and the row's identity

Rows of the same sequence are few (those of one account on one day), so 38 bits tell them apart: among a million rows in
groups of ten, two would meet with a probability below 2^-15; and then the ledger answers `id_reused`, never silently.
"""

from hashlib import blake2b

__all__ = ["SEQUENCE_MAX", "row_id"]

_SEQUENCE_BITS = 36
_HASH_BITS = 38
SEQUENCE_MAX = 2**_SEQUENCE_BITS - 1
assert _SEQUENCE_BITS + _HASH_BITS == 74  # what RFC 9562 leaves free: rand_a (12 bits) and rand_b (62 bits)


def row_id(*, importer: str, identity: str, sequence: int, base_time_ms: int) -> str:
    """Make the id of the transaction for one row.

    Args:
        importer: the importer's name.
        identity: what makes the row this row and no other, for ever.
        sequence: 0 to `SEQUENCE_MAX`; higher for rows that are booked later.
        base_time_ms: unix time of the first import.
    """
    assert 0 <= sequence <= SEQUENCE_MAX, sequence
    assert 0 <= base_time_ms < 2**48, base_time_ms
    digest = blake2b(f"{importer}\0{identity}".encode(), digest_size=8).digest()
    free = sequence << _HASH_BITS | int.from_bytes(digest) >> (64 - _HASH_BITS)
    value = base_time_ms << 80 | 0x7 << 76 | (free >> 62) << 64 | 0b10 << 62 | free & (2**62 - 1)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
