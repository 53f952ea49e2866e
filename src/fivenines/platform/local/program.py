"""What an agent runs: one process, how to know how it is, and how it is stopped. Values only."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from fivenines.control.desired import Role

__all__ = ["Probe", "Program"]


class Probe(Struct, frozen=True, kw_only=True):
    """One question to a process; seconds where a name ends in _s."""

    port: int
    path: str = ""
    """Asked by HTTP, and good if the status is 2xx or 3xx; empty: it is enough that a TCP connection is taken."""
    interval_s: float = 1.0
    timeout_s: float = 2.0
    failures: int = 3
    """So many in a row count. Success counts at once."""


class Program(Struct, frozen=True, kw_only=True):
    """One workload as a process.

    The three probes mean three things. Until `startup` succeeds nothing else is asked, and when it does not in time the
    process is begun again. `readiness` decides whether it gets traffic, and never ends it. `liveness` is for what only
    a new process can mend: when it fails the process is ended and begun again. It must not depend on anybody else, or
    one dead part would have all others restarted.
    """

    name: str
    role: Role
    command: tuple[str, ...]
    env: Mapping[str, str] = {}
    """Beside the agent's own."""
    env_file: Path | None = None
    """Further environment, a line NAME=VALUE each, read at every start; there need be none. For what is tried out with
    one process alone, such as by a drill."""
    host: str = "127.0.0.1"
    folder: Path | None = None
    """Its data; emptied when the workload is replaced."""
    works_in: Path | None = None
    """The folder that the process runs in; None: the agent's."""
    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None
    startup_s_max: float = 60.0
    drain_s_max: float = 20.0
    """For so long what is in flight at its edge is waited for before it is told to stop."""
    stop_signal: int = signal.SIGTERM
    """What asks it to finish what it has, and end."""
    stop_s_max: float = 25.0
    """After so long a stop becomes SIGKILL."""
    needs: Literal["nothing", "journal"] = "nothing"
    """What must be there before it is started the first time."""
    is_in_edge: bool = False
    """Whether its edge knows it, by its name, and sends it traffic."""
    reload: tuple[str, ...] = ()
    """Further options for a process that takes over the sockets of the one before, which then finishes what it has; the
    last one is followed by its process id. Empty for what cannot do that."""

    @property
    def address(self) -> str:
        """host:port of its first probe; empty where it has none."""
        probe = self.readiness or self.startup
        return f"{self.host}:{probe.port}" if probe else ""
