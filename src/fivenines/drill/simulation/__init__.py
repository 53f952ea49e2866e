"""The simulator of the data path: real nodes, real clients, virtual time, a seed.

The ledger, the writer, the replica, the gateway and the client's decisions run as they are. What is simulated is what
lies between them: the journal's promises (`journal`), the machines (`fleet`), the network (`clients`) and time itself
(`loop`). `judge` holds what clients were told against what the log says, and `run` draws a whole life from a seed.

    python -m fivenines.drill.simulation --seed 7          one life, told in one line
    python -m fivenines.drill.simulation --count 2000      many, on all processors
"""

from fivenines.drill.simulation.judge import ViolationError
from fivenines.drill.simulation.run import Life, SimulationFailedError, simulate

__all__ = ["Life", "SimulationFailedError", "ViolationError", "simulate"]
