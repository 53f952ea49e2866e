"""What came of a drill, as values: written by who runs one, read by whoever reports on it or learns from it.

Times are seconds since the drill began unless a name says otherwise.
"""

from typing import Final, Literal

from msgspec import Struct

__all__ = [
    "BY_SOMEBODY",
    "Checked",
    "DrillResult",
    "Finding",
    "Guarantee",
    "GuaranteeVerdict",
    "Moment",
    "MomentKind",
    "Recovery",
    "Slice",
    "Verdict",
]

Guarantee = Literal[
    "acknowledged is durable",
    "strictly serializable",
    "read your writes",
    "exactly once",
    "overload is shed",
    "static stability",
    "corruption is found",
    "node lost",
    "edge or region lost",
    "journal leader lost",
    "journal majority lost",
    "all regions lost",
    "caretakers lost",
]
"""The promises and the faults of the design's guarantees, a name for each row."""

Verdict = Literal["passed", "failed", "stopped", "refused", "skipped"]
"""passed    the hypothesis held before, during and after, and every guarantee was kept
failed    it did not hold, or a guarantee was broken
stopped   real harm showed, or somebody stopped it; it was undone
refused   it did not begin: the platform was not well, or had no budget left
skipped   this machine cannot do it; the reasons say what is missing
"""

BY_SOMEBODY: Final = "somebody stopped it"
"""The first reason of a drill that was stopped, and not for harm."""

MomentKind = Literal["fault", "fault over", "detected", "decided", "done", "recovered", "hypothesis", "stopped"]


class Moment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened."""

    at: float
    kind: MomentKind
    what: str
    target: str = ""
    region: str = ""
    """Where it was seen or decided."""
    why: str = ""
    took_s: float | None = None


class Slice(Struct, frozen=True, kw_only=True, array_like=True):
    """What clients saw of the requests that were due in one stretch of time."""

    at: float
    """When it begins."""
    width_s: float
    asked: int
    failed: int
    slow: int
    """Answered, but after longer than a client should wait."""
    p50_ms: float
    p99_ms: float
    longest_ms: float


class Recovery(Struct, frozen=True, kw_only=True):
    """How the platform came back from one fault. None: nobody had to do that, or it could not be seen."""

    fault: str
    target: str
    at: float
    """When it began."""
    detect_s: float | None = None
    """Until somebody saw it."""
    decide_s: float | None = None
    """From then until something was decided."""
    act_s: float | None = None
    """From then until it was done."""
    drain_s: float | None = None
    """From then until the last request that suffered from it was answered."""
    recovery_s: float | None = None
    """From the beginning until clients were served as before: the recovery time."""
    whole_after_s: float | None = None
    """From the beginning until every part ran and every region served again."""
    longest_pause_s: float = 0.0
    """The longest that any request waited that was due meanwhile."""
    failed: int = 0
    budget_s: float = 0.0
    """Seconds of the error budget that it took."""
    facts: dict[str, float] = {}
    """What else was measured; seconds where a name ends in _s."""


class Checked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One probe of the steady-state hypothesis, at one time."""

    at: float
    when: Literal["before", "during", "after"]
    probe: str
    tolerance: str
    """What was wanted, for people."""
    value: str
    """What was found, for people."""
    holds: bool


class GuaranteeVerdict(Struct, frozen=True, kw_only=True):
    """Whether one guarantee was kept."""

    guarantee: Guarantee
    is_kept: bool
    why: str
    """What was looked at, and how much of it; or what broke it."""


class Finding(Struct, frozen=True, kw_only=True):
    """Something that is wrong with what the ledger told or holds."""

    kind: str
    """lost, doubled, reordered, applied after a refusal, ..."""
    guarantee: Guarantee
    what: str
    """In one sentence."""
    history: tuple[str, ...] = ()
    """The smallest history that shows it, a line for each request."""


class DrillResult(Struct, frozen=True, kw_only=True):
    """What came of one drill."""

    name: str
    """Of its file, without the ending."""
    title: str
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    """Why it is not `passed`."""
    description: str = ""
    tags: tuple[str, ...] = ()
    guarantees: tuple[GuaranteeVerdict, ...] = ()
    seed: int = 0
    began_at: float = 0.0
    """Unix time."""
    took_s: float = 0.0
    rate_per_s: float = 0.0
    requests: int = 0
    acknowledged: int = 0
    failed_requests: int = 0
    refused_requests: int = 0
    """Turned away with a clear answer, and surely not done."""
    lost: int = 0
    """Transactions that were acknowledged and are not in the journal: what the recovery point is counted in."""
    doubled: int = 0
    reordered: int = 0
    longest_pause_s: float = 0.0
    availability: float = 1.0
    """As a user saw it: the share of requests that were answered in time."""
    budget_s: float = 0.0
    cost: float | None = None
    """What that costs, by the declared cost of downtime."""
    currency: str = ""
    moments: tuple[Moment, ...] = ()
    slices: tuple[Slice, ...] = ()
    recoveries: tuple[Recovery, ...] = ()
    checked: tuple[Checked, ...] = ()
    findings: tuple[Finding, ...] = ()
    versions: dict[str, str] = {}
    """fivenines, python, etcd, haproxy, kernel: whatever took part."""
    machine: dict[str, str] = {}
