"""How each thing that a fault does is undone: small values that are written down before it is done.

Whoever reads one can undo it: the drill itself in the end, the watchdog, or the next command a day later. So each
holds all that is needed for that, does no harm when there is nothing (any more) to undo, and can tell whether what it
is about is still there. They know processes, files and the kernel, and nothing of a platform.
"""

import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from fivenines.drill.faults.processes import Process, tree

__all__ = [
    "AwayWithRule",
    "EndHelper",
    "LeaveGroup",
    "Mend",
    "PointServer",
    "PutByteBack",
    "PutCertificateBack",
    "PutFileBack",
    "Resume",
    "SameWay",
    "Undo",
    "Unlimit",
    "Untraced",
    "ask_haproxy",
    "in_network",
]

_END_S = 3.0
_LOOK_S = 0.02
_ASK_S = 3.0


class SameWay(Struct, frozen=True):
    """What all of them can."""

    def undo(self) -> None:
        """Undo it. Raises OSError where that could not be done."""
        raise NotImplementedError

    def still(self) -> str:
        """Say how it is known to be there still; empty when it is gone."""
        raise NotImplementedError

    def about(self) -> object:
        """What it is about: of two faults that did the same thing, the one that ends last undoes it."""
        return self

    def sparing(self, _others: "Sequence[SameWay]") -> "SameWay":
        """Return it so that it leaves alone what others in the book are about."""
        return self


class Resume(SameWay, frozen=True, tag="resume"):
    """Have a stopped process go on."""

    process: Process

    def undo(self) -> None:  # noqa: D102
        self.process.send(signal.SIGCONT)

    def still(self) -> str:  # noqa: D102
        return f"process {self.process.pid} is stopped" if self.process.state() == "T" else ""


class EndHelper(SameWay, frozen=True, tag="end helper"):
    """End a process that we have started to do something; it undoes what it does when it is told to end."""

    process: Process

    def undo(self) -> None:  # noqa: D102
        if self.process.send(signal.SIGTERM) and not _within(_END_S, lambda: not self.process.is_alive()):
            self.process.send(signal.SIGKILL)

    def still(self) -> str:  # noqa: D102
        return f"the helper {self.process.pid} runs" if self.process.is_alive() else ""


class Untraced(SameWay, frozen=True, tag="untraced"):
    """Nothing to do, as the tracer is a helper; but nobody traces the process any more."""

    process: Process

    def undo(self) -> None:  # noqa: D102
        return

    def still(self) -> str:  # noqa: D102
        with suppress(OSError):
            status = Path(f"/proc/{self.process.pid}/status").read_text(errors="replace")
            tracer = next((line.split()[1] for line in status.splitlines() if line.startswith("TracerPid:")), "0")
            if tracer != "0" and self.process.is_alive():
                return f"process {self.process.pid} is traced by {tracer}"
        return ""


class LeaveGroup(SameWay, frozen=True, tag="leave group"):
    """Take all processes out of a control group, and take the group away."""

    group: str
    """Its folder."""
    home: str
    """The folder of the group that they came from."""
    beyond: tuple[str, ...] = ()
    """Where that is another fault's: the group that they came from before, and so on."""

    def undo(self) -> None:  # noqa: D102
        members = Path(self.group, "cgroup.procs")
        # The nearest that is left. The last one is where we make groups, which is always there.
        homes = (Path(each, "cgroup.procs") for each in (self.home, *self.beyond, str(Path(self.group).parent)))
        home = next((each for each in homes if each.exists()), members)
        until = time.monotonic() + _END_S
        while Path(self.group).is_dir():
            for pid in members.read_text().split():
                with suppress(ProcessLookupError):
                    home.write_text(pid)
            try:
                Path(self.group).rmdir()
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(_LOOK_S)

    def still(self) -> str:  # noqa: D102
        return f"the control group {self.group} is there" if Path(self.group).is_dir() else ""


class Unlimit(SameWay, frozen=True, tag="unlimit"):
    """Give a process back what it may have of something, and those, too, that have inherited less from it."""

    process: Process
    kind: int
    """resource.RLIMIT_..."""
    soft: int
    hard: int
    spared: tuple[Process, ...] = ()
    """Those that were limited themselves: what they get back stands in the book on its own."""

    def undo(self) -> None:  # noqa: D102
        if self.process.is_alive():
            with suppress(ProcessLookupError):
                resource.prlimit(self.process.pid, self.kind, (self.soft, self.hard))
        until = time.monotonic() + _END_S
        while (heirs := self.heirs()) and time.monotonic() < until:  # one may start another one meanwhile
            for each in heirs:
                with suppress(ProcessLookupError):
                    _, hard = resource.prlimit(each.pid, self.kind)
                    resource.prlimit(each.pid, self.kind, (self._within(hard), hard))

    def still(self) -> str:  # noqa: D102
        with suppress(ProcessLookupError):
            if self.process.is_alive():
                soft, _ = resource.prlimit(self.process.pid, self.kind)
                if soft != self.soft:
                    return f"process {self.process.pid} is limited to {soft} of resource {self.kind}"
        heirs = [str(each.pid) for each in self.heirs()]
        return f"processes {', '.join(heirs)} have inherited a limit of resource {self.kind}" if heirs else ""

    def about(self) -> object:  # noqa: D102
        return self.process, self.kind

    def sparing(self, others: "Sequence[SameWay]") -> "Unlimit":  # noqa: D102
        limited = [each.process for each in others if isinstance(each, Unlimit) and each.kind == self.kind]
        return structs.replace(self, spared=tuple(limited))

    def heirs(self) -> list[Process]:
        """Return what it has started, and so on, that may have less than it could before it was limited."""
        try:
            parent, *started = tree(self.process.pid)
        except ProcessLookupError:
            return []
        if parent != self.process:  # another one has its number
            return []
        found = []
        for each in started:
            with suppress(ProcessLookupError):
                soft, hard = resource.prlimit(each.pid, self.kind)
                if each not in self.spared and each.is_alive() and _is_less(soft, self._within(hard)):
                    found.append(each)
        return found

    def _within(self, hard: int) -> int:
        return hard if _is_less(hard, self.soft) else self.soft


class PutByteBack(SameWay, frozen=True, tag="put byte back"):
    """Give a file its good byte back where it still has the bad one; one that was mended or is gone is left alone."""

    path: str
    offset: int
    good: int
    bad: int
    inode: int

    def undo(self) -> None:  # noqa: D102
        with suppress(FileNotFoundError), Path(self.path).open("r+b") as file:
            if os.fstat(file.fileno()).st_ino == self.inode and _byte(file.fileno(), self.offset) == self.bad:
                os.pwrite(file.fileno(), bytes([self.good]), self.offset)
                os.fsync(file.fileno())

    def still(self) -> str:  # noqa: D102
        with suppress(FileNotFoundError), Path(self.path).open("rb") as file:
            if os.fstat(file.fileno()).st_ino == self.inode and _byte(file.fileno(), self.offset) == self.bad:
                return f"{self.path} is damaged at {self.offset}"
        return ""


class PutFileBack(SameWay, frozen=True, tag="put file back"):
    """Give a small file of settings the content that it had, or take it away where there was none."""

    path: str
    content: str | None

    def undo(self) -> None:  # noqa: D102
        path = Path(self.path)
        if self.content is None:
            path.unlink(missing_ok=True)
        elif path.parent.is_dir():
            draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
            draft.write_text(self.content)
            draft.replace(path)

    def still(self) -> str:  # noqa: D102
        path = Path(self.path)
        now = path.read_text() if path.exists() else None
        return "" if now == self.content or not path.parent.is_dir() else f"{path} is not what it was"

    def about(self) -> object:  # noqa: D102
        return self.path


class PointServer(SameWay, frozen=True, tag="point server"):
    """Have an edge send what is for a server to where that really is. An edge that is away knows it by its settings."""

    admin: str
    """The edge's socket."""
    server: str
    host: str
    port: int

    def undo(self) -> None:  # noqa: D102
        for backend in self._backends():
            ask_haproxy(self.admin, f"set server {backend}/{self.server} addr {self.host} port {self.port}")

    def still(self) -> str:  # noqa: D102
        wrong = [name for name, address in self._backends().items() if address != f"{self.host}:{self.port}"]
        return f"the edge sends {self.server}'s requests elsewhere in {', '.join(wrong)}" if wrong else ""

    def about(self) -> object:  # noqa: D102
        return self.admin, self.server

    def _backends(self) -> dict[str, str]:
        """The backends that have the server, with its address there."""
        found = {}
        for line in ask_haproxy(self.admin, "show servers state").splitlines()[2:]:
            fields = line.split(" ")
            if len(fields) > 18 and fields[3] == self.server:
                found[fields[1]] = f"{fields[4]}:{fields[18]}"
        return found


class Mend(SameWay, frozen=True, tag="mend"):
    """Let packets to an address arrive again: take away the neighbour entry that leads them to nobody."""

    namespace: str
    """A network namespace; empty: the machine's own."""
    device: str
    address: str
    lost_at: str
    """The hardware address that leads to nobody."""

    def undo(self) -> None:  # noqa: D102
        in_network(self.namespace, self._mend, None)

    def still(self) -> str:  # noqa: D102
        lost = in_network(self.namespace, self._is_lost, False)
        return (
            f"packets to {self.address} are lost at {self.device} of {self.namespace or 'the machine'}" if lost else ""
        )

    def _mend(self, net: Any) -> None:
        if self._is_lost(net):
            net.neigh("del", dst=self.address, ifindex=net.link_lookup(ifname=self.device)[0])

    def _is_lost(self, net: Any) -> bool:
        found = net.link_lookup(ifname=self.device)
        if not found:
            return False
        return any(
            each.get_attr("NDA_DST") == self.address and each.get_attr("NDA_LLADDR") == self.lost_at
            for each in net.get_neighbours(ifindex=found[0])
        )


class AwayWithRule(SameWay, frozen=True, tag="away with rule"):
    """Take away the rules of routing with a priority that is one fault's own, and their table."""

    namespace: str
    number: int
    """The priority, and the table."""

    def undo(self) -> None:  # noqa: D102
        in_network(self.namespace, self._away, None)

    def still(self) -> str:  # noqa: D102
        count = len(in_network(self.namespace, self._rules, []))
        return f"{count} rules of routing are left in {self.namespace}" if count else ""

    def _away(self, net: Any) -> None:
        for _ in self._rules(net):
            net.rule("del", priority=self.number)
        net.flush_routes(table=self.number)

    def _rules(self, net: Any) -> list[Any]:
        return [each for each in net.get_rules(family=socket.AF_INET) if each.get_attr("FRA_PRIORITY") == self.number]


class PutCertificateBack(SameWay, frozen=True, tag="put certificate back"):
    """Have a TLS front show its good certificate again. One that is away has read it from its file when it is back."""

    admin: str
    """The front's socket."""
    name: str
    """What the front calls the certificate: the file that it was first read from."""
    good: str
    """The file with the good certificate and its key."""
    serial: str
    """The good one's, in capital hexadecimal digits."""

    def undo(self) -> None:  # noqa: D102
        with suppress(FileNotFoundError):
            pem = "\n".join(filter(None, Path(self.good).read_text().splitlines()))
            if ask_haproxy(self.admin, f"set ssl cert {self.name} <<\n{pem}\n"):
                ask_haproxy(self.admin, f"commit ssl cert {self.name}")

    def still(self) -> str:  # noqa: D102
        for line in ask_haproxy(self.admin, f"show ssl cert {self.name}").splitlines():
            name, _, value = line.partition(":")
            if name == "Serial" and value.strip() != self.serial:
                return f"the front shows the certificate {value.strip()} instead of {self.serial}"
        return ""


Undo = (
    Resume
    | EndHelper
    | Untraced
    | LeaveGroup
    | Unlimit
    | PutByteBack
    | PutFileBack
    | PointServer
    | Mend
    | AwayWithRule
    | PutCertificateBack
)


def _is_less(one: int, other: int) -> bool:
    """Compare two limits of the kernel."""
    return one not in {other, resource.RLIM_INFINITY} and (other == resource.RLIM_INFINITY or one < other)


def _byte(file: int, offset: int) -> int | None:
    found = os.pread(file, 1, offset)
    return found[0] if found else None


def _within(seconds: float, is_so: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_S)
    return True


def ask_haproxy(admin: str, command: str) -> str:
    """Give HAProxy an order; empty where nobody listens. Raises OSError where it gives no answer."""
    with socket.socket(socket.AF_UNIX) as to:
        to.settimeout(_ASK_S)
        try:
            to.connect(admin)
        except (FileNotFoundError, ConnectionRefusedError):
            return ""
        to.sendall(command.encode() + b"\n")
        answer = b""
        with suppress(ConnectionResetError):  # it was ended meanwhile
            while chunk := to.recv(64 * 1024):
                answer += chunk
        return answer.decode(errors="replace").strip()


def in_network(namespace: str, work: Callable[[Any], Any], otherwise: Any) -> Any:
    """Do something with the routing of a network namespace; one that is gone has nothing that could be undone."""
    from pyroute2 import IPRoute, NetlinkError, NetNS

    from fivenines.platform.local.isolation import keep_signals_apart

    if namespace and not Path("/var/run/netns", namespace).exists():
        return otherwise
    keep_signals_apart()
    opening: Callable[[], Any] = (lambda: NetNS(namespace)) if namespace else IPRoute
    try:
        with opening() as net:
            return work(net)
    except NetlinkError as error:
        raise OSError(f"the kernel refuses: {error}") from error
