"""A node: it serves the ledger. Gateway and replica in one process, the journal beneath.

The way of a write: `gateway` (HTTP) reads and checks a request, `requests` makes commands of it, `writer` makes a frame
of the commands of many requests and appends it, `replica` gets the frame back from the journal and applies it, and the
outcomes return the same way. A read is answered from the replica's state in memory.

    settings   what it accepts            recovery, snapshots      how it starts and what it starts from
    node       the parts put together     http, connections        HTTP, bounded in every way
    server     a process of its own       region                   a process among others, on a shared journal
    fleet      what nodes tell others     audit, joining           do they agree; whose snapshot to begin with
    pages      reads of the books         history, listing         what pages look things up in
    openapi    what all of it looks like  answers, problems        what is said, and what is said of errors
"""

from fivenines.node.node import Node, Statistics, now_us, open_fleet_node, open_node
from fivenines.node.recovery import Recovered, RecoveryError, recover
from fivenines.node.settings import FleetSettings, Identity, Limits, NodeSettings
from fivenines.node.writer import OverloadedError, Receipt, Writer

__all__ = [
    "FleetSettings",
    "Identity",
    "Limits",
    "Node",
    "NodeSettings",
    "OverloadedError",
    "Receipt",
    "Recovered",
    "RecoveryError",
    "Statistics",
    "Writer",
    "now_us",
    "open_fleet_node",
    "open_node",
    "recover",
]
