"""The simulator of the data path: real nodes, real clients, virtual time, a seed.

The ledger, the writer, the replica, the gateway, the fleet, the journal in etcd and the client's decisions run as they
are. What is simulated is what lies around them: etcd's members (`etcd_members`, over `etcd_store`) and the ways there
(`etcd_channels`), the machines (`fleet`), the network of the clients (`clients`) and time itself (`loop`). `judge`
reads what the members agreed on with books of its own and holds everybody against it at each step, and `run` draws a
whole life from a seed.

    python -m fivenines.drill.simulation --seed 7          one life, told in one line
    python -m fivenines.drill.simulation --count 2000      many, on all processors
"""

from fivenines.drill.simulation.judge import ViolationError
from fivenines.drill.simulation.run import COUNTS, Life, Parts, SimulationFailedError, simulate

__all__ = ["COUNTS", "Life", "Parts", "SimulationFailedError", "ViolationError", "simulate"]
