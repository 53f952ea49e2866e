"""All faults by their names, each with what it is, what it takes, and how it begins on a platform.

`beginning.py` chooses which processes, addresses and files that is about; the modules beside do the work.
"""

import sys
from collections.abc import Mapping

from fivenines.drill.faults import beginning, certificates, clocks, cutting, disks
from fivenines.drill.faults.kinds import FaultKind, Parameter
from fivenines.platform.local.isolation import why_not as why_no_netns

__all__ = ["FAULTS"]


def _linux() -> str | None:
    return None if sys.platform == "linux" else "it takes Linux's /proc and signals"


_TRACING = "strace, and leave to trace processes (ptrace)"

_KINDS = (
    FaultKind(
        name="kill",
        summary="a process, or with its agent a whole region, ends at once (SIGKILL)",
        target="any node",
        begin=beginning.kill,
        undone="nothing to undo: its agent begins it again",
        possible=_linux,
    ),
    FaultKind(
        name="stop",
        summary="a process, or a whole region, stands still (SIGSTOP): it takes connections and answers nothing",
        target="any node",
        begin=beginning.stop,
        undone="SIGCONT; a process that its agent has replaced meanwhile is gone with it",
        possible=_linux,
    ),
    FaultKind(
        name="slow",
        summary="a process, or a whole region, gets too little of the processor",
        target="any node",
        begin=beginning.slow,
        parameters={
            "share": Parameter(default=0.1, low=0.01, high=0.95, meaning="of one processor's time, for all of it"),
            "by": Parameter(default="best", choices=("best", "group", "duty"), meaning="control group, or stop and go"),
        },
        needs="better as root with control groups for the processor, version 1 or 2",
        undone="its processes go back to the group that they came from, and the group is taken away; or SIGCONT",
        possible=_linux,
    ),
    FaultKind(
        name="slow_wire",
        summary="what goes between an edge and a node, or all nodes of a region, is late, slow, cut, or never comes",
        target="any node",
        begin=beginning.slow_wire,
        parameters={
            "delay_s": Parameter(default=0.5, low=0, high=60, meaning="later, in each direction"),
            "jitter_s": Parameter(default=0.0, low=0, high=60, meaning="up to so much more, by chance"),
            "bytes_per_s": Parameter(default=0.0, low=0, meaning="of each connection; 0: as fast as it comes"),
            "cut": Parameter(default=0.0, low=0, high=1, meaning="chance of each piece that the connection breaks"),
            "silent": Parameter(default=0.0, low=0, high=1, meaning="chance of each connection that nothing passes"),
        },
        undone="the edge is told the node's own address; what is on the wire arrives yet",
        possible=_linux,
    ),
    FaultKind(
        name="partition",
        summary="what is sent between a region and others is lost without a word",
        target="region",
        begin=beginning.partition,
        parameters={
            "way": Parameter(default="whole", choices=cutting.WAYS, meaning="from whom, and in which direction")
        },
        needs="root, and a platform with '--isolation netns'",
        undone="the neighbour entries, or rules of routing, that lead packets to nobody are taken away",
        possible=why_no_netns,
        takes_netns=True,
    ),
    FaultKind(
        name="disk_full",
        summary="a process can write no more of its data: no space left on device",
        target="any node",
        begin=beginning.disk_full,
        needs=_TRACING,
        undone="strace takes its hands off, and the limit of file sizes is what it was",
        possible=disks.why_not,
    ),
    FaultKind(
        name="slow_fsync",
        summary="each sync to disk of a process takes long",
        target="journal leader",
        begin=beginning.slow_fsync,
        parameters={"delay_s": Parameter(default=0.1, low=0.001, high=60, meaning="of each fsync and fdatasync")},
        needs=_TRACING,
        undone="strace takes its hands off",
        possible=disks.why_not,
    ),
    FaultKind(
        name="io_errors",
        summary="calls of a process about its data fail with an I/O error",
        target="journal follower",
        begin=beginning.io_errors,
        parameters={
            "calls": Parameter(default="sync", choices=tuple(disks.CALLS), meaning="which ones"),
            "every": Parameter(default=1, low=1, meaning="each so many-th of them, the first one too"),
        },
        needs=_TRACING,
        undone="strace takes its hands off",
        possible=disks.why_not,
    ),
    FaultKind(
        name="clock_jump",
        summary="the time of day of a Python process is wrong from one moment to the next",
        target="any node",
        begin=beginning.clock_jump,
        parameters={"offset_s": Parameter(default=30.0, meaning="later; negative: earlier")},
        needs="libfaketime; the workload is restarted with it",
        undone="the clock is right again at once, and the next start is one without the library",
        possible=clocks.why_not,
    ),
    FaultKind(
        name="clock_drift",
        summary="the time of day of a Python process goes too fast or too slow",
        target="any node",
        begin=beginning.clock_drift,
        parameters={"seconds_per_s": Parameter(default=0.1, low=-0.9, high=10, meaning="wrong by so much each second")},
        needs="libfaketime; the workload is restarted with it",
        undone="the clock is right again at once, and the next start is one without the library",
        possible=clocks.why_not,
    ),
    FaultKind(
        name="memory_pressure",
        summary="a process gets next to no more memory",
        target="any node",
        begin=beginning.memory_pressure,
        parameters={"spare_mib": Parameter(default=16.0, low=0, meaning="address space beyond what it has")},
        needs="for other users' processes root",
        undone="its limit is what it was",
        possible=_linux,
    ),
    FaultKind(
        name="fd_exhaustion",
        summary="a process can open next to no more files and connections",
        target="any node",
        begin=beginning.fd_exhaustion,
        parameters={"spare": Parameter(default=2, low=0, meaning="descriptors beyond what it has")},
        needs="for other users' processes root",
        undone="its limit is what it was",
        possible=_linux,
    ),
    FaultKind(
        name="corrupt_file",
        summary="one bit of a file at rest turns round",
        target="any node",
        begin=beginning.corrupt_file,
        parameters={
            "what": Parameter(
                default="snapshot",
                choices=("snapshot", "segment"),
                meaning="the newest snapshot of a node, or segment of the archive of the target's region",
            ),
            "wait_s": Parameter(default=30.0, low=0, meaning="so long for there to be one"),
        },
        undone="the byte is put back if the file is still there, and still bad",
        possible=_linux,
    ),
    FaultKind(
        name="expired_certificate",
        summary="whoever comes to a region by TLS is shown an expired certificate",
        target="region",
        begin=beginning.expired_certificate,
        needs="openssl; TLS in front of the edges, which `certificates.TlsFronts` puts there",
        undone="the front shows its good certificate again",
        possible=certificates.why_not,
    ),
    FaultKind(
        name="overload",
        summary="one edge is asked for many times of what the whole platform has to do",
        target="edge",
        begin=beginning.overload,
        parameters={
            "times": Parameter(default=10.0, low=0.1, high=1_000, meaning="of the requests that all edges get now"),
            "rate_per_s": Parameter(default=0.0, low=0, high=100_000, meaning="instead, if it is not 0"),
        },
        undone="the process that asks is ended; the facts say what came of it",
        possible=_linux,
    ),
    FaultKind(
        name="poisoned_request",
        summary="an edge, or a node itself, is sent a catalogue of hostile requests",
        target="edge",
        begin=beginning.poisoned_request,
        parameters={"times": Parameter(default=1, low=1, high=1_000, meaning="each of them")},
        undone="nothing to undo; the facts say what came of it, and whether a node was lost",
    ),
    FaultKind(
        name="edge_loss",
        summary="an edge is killed as often as it comes back",
        target="edge",
        begin=beginning.keep_away,
        undone="nobody kills it any more; its agent begins it again within ten seconds",
        possible=_linux,
    ),
    FaultKind(
        name="dns_loss",
        summary="a nameserver is killed as often as it comes back",
        target="nameserver",
        begin=beginning.keep_away,
        undone="nobody kills it any more; its agent begins it again within ten seconds",
        possible=_linux,
    ),
    FaultKind(
        name="restart",
        summary="nodes are restarted, one after the other, as a rollout does",
        target="all nodes",
        begin=beginning.restart,
        undone="nothing to undo",
    ),
)
FAULTS: Mapping[str, FaultKind] = {kind.name: kind for kind in _KINDS}
"""All faults."""
