"""The steering table: all that a nameserver answers by, as one value in one file.

The controller of a region writes it, whole and atomically; the nameserver reads it when it changes and keeps the last
one that made sense. So names go on being answered when every controller is dead.
"""

import os
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

__all__ = ["GeoPrefix", "Policy", "SteeredRegion", "SteeringTable", "decode_table", "read_table", "write_table"]

Policy = Literal["weighted", "latency", "geo", "failover"]


class SteeredRegion(Struct, frozen=True, kw_only=True):
    """One region as clients may be led to it."""

    name: str
    addresses: tuple[str, ...]
    """Of its edges, IPv4 or IPv6."""
    nameserver: str
    """The address of its own nameserver."""
    weight: float = 1.0
    """As declared, or 1 where all that have a share would weigh 0."""
    share: float = 1.0
    """How much of its usual traffic it gets now, 0 to 1: 0 for a region that is down, evacuated or on standby, a part
    for one that is coming back. It gets `weight * share`, in proportion to the others' products."""
    rank: int = 0
    """The order of the policy `failover`: the lowest that is served gets all."""
    latitude: float | None = None
    """In degrees, north."""
    longitude: float | None = None
    """In degrees, east."""
    latency_ms: float | None = None
    """From the region of the nameserver that has this table, as last measured."""


class GeoPrefix(Struct, frozen=True, kw_only=True):
    """Where the clients of a network are."""

    network: str
    """Such as 192.0.2.0/24 or 2001:db8::/32; of several that match the longest counts."""
    latitude: float
    longitude: float


class SteeringTable(Struct, frozen=True, kw_only=True):
    """What a nameserver answers by."""

    zone: str
    """Such as `bank.test`, without the last dot."""
    serial: int
    """Goes up with every change: the SOA's."""
    here: str
    """The region of the nameserver that has this table."""
    policy: Policy = "weighted"
    ttl_s: int = 2
    answers_max: int = 2
    """Addresses in one answer, the first one chosen by the policy, the others by the policy without the ones before."""
    names: tuple[str, ...] = ("api",)
    """The names below the zone that are steered: the ledger, and users' services."""
    regions: tuple[SteeredRegion, ...] = ()
    networks: tuple[GeoPrefix, ...] = ()
    """For the policy `geo`."""


_decoder = msgspec.json.Decoder(SteeringTable)


def read_table(path: Path) -> SteeringTable:
    """Read a table. Raises OSError, and `msgspec.MsgspecError` where the file is none."""
    return decode_table(path.read_bytes())


def decode_table(content: bytes) -> SteeringTable:
    """Read the content of a table's file. Raises `msgspec.MsgspecError` where it is none."""
    return _decoder.decode(content)


def write_table(path: Path, table: SteeringTable) -> None:
    """Put a table in the place of the one before, so that whoever reads finds one of the two, whole."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(table), indent=1))
    draft.replace(path)
