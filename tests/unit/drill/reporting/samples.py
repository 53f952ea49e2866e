"""Drills that could have been: passed, failed with findings, stopped, refused, skipped; from a seed."""

import random
from collections.abc import Sequence
from typing import Literal

from fivenines.drill.results import (
    Checked,
    DrillResult,
    Finding,
    Guarantee,
    GuaranteeVerdict,
    Moment,
    Recovery,
    Slice,
    Verdict,
)

_VERSIONS = {
    "fivenines": "0.6.0",
    "python": "3.11.7",
    "etcd": "3.4.23",
    "haproxy": "2.6.12",
    "kernel": "6.1.0-28-amd64",
}
_MACHINE = {"cores": "2", "memory": "7.8 GiB", "disk": "virtual, fdatasync 1.9 ms", "system": "Debian 12"}
_DAY = 1_790_000_000.0

_KINDS: Sequence[tuple[str, str, str, str, Guarantee, float]] = (
    ("node-killed", "A node is killed", "kill", "eu-west/node-2", "node lost", 0.05),
    ("node-stopped", "A node hangs", "stop", "eu-north/node-1", "node lost", 0.4),
    ("node-slow", "A node has a tenth of its processor", "slow", "us-east/node-3", "node lost", 0.2),
    ("edge-killed", "An edge is killed", "kill", "eu-west/edge", "edge or region lost", 0.3),
    ("region-cut-off", "The busiest region is cut off", "partition", "eu-west", "edge or region lost", 0.9),
    ("journal-leader-killed", "The journal's leader is killed", "kill", "journal leader", "journal leader lost", 0.6),
    ("journal-leader-stopped", "The journal's leader hangs", "stop", "journal leader", "journal leader lost", 0.8),
    ("journal-majority", "Two members are lost", "kill", "journal majority", "journal majority lost", 3.2),
    ("all-regions", "Every region is lost, and restored", "kill", "all regions", "all regions lost", 24.0),
    ("historians-down", "Historians are down", "kill", "historians", "caretakers lost", 0.0),
    ("controllers-down", "Controllers are down", "kill", "controllers", "static stability", 0.0),
    ("overload", "Ten times the load", "overload", "every region", "overload is shed", 0.7),
    ("file-corrupted", "A segment at rest is damaged", "corrupt", "eu-north/segment-41", "corruption is found", 0.0),
    ("clock-jump", "A clock jumps by an hour", "clock jump", "us-east/node-1", "strictly serializable", 0.1),
    ("disk-full", "A disk is full", "disk full", "eu-west/journal", "journal leader lost", 0.5),
)


def sample(index: int, *, verdict: Verdict = "passed", slices: int = 240, seed: int = 7) -> DrillResult:
    """Make a drill up."""
    chance = random.Random(f"{seed}/{index}")
    name, title, fault, target, guarantee, pause = _KINDS[index % len(_KINDS)]
    if index >= len(_KINDS):
        name, title = f"{name}-{index // len(_KINDS) + 1}", f"{title}, under market open"
    common = {
        "name": name,
        "title": title,
        "description": f"Clients ask at a steady rate through DNS. {title}, for about half of the drill, and "
        "the platform has to come back by itself, without anybody who asks having to know.",
        "tags": ("catalogue", "short") if index % 2 else ("catalogue",),
        "seed": 40 + index,
        "began_at": _DAY + index * 140,
        "versions": _VERSIONS,
        "machine": _MACHINE,
    }
    if verdict in {"refused", "skipped"}:
        reason = (
            "the error budget of this month is spent: 1.2 of 25.9 s are left, and this drill may take 3 s"
            if verdict == "refused"
            else "the kernel has no netem, and network namespaces need root"
        )
        return DrillResult(**common, verdict=verdict, reasons=(reason,))  # type: ignore[arg-type]
    took = 120.0 if verdict != "stopped" else 58.0
    begin, end, rate = 30.0, min(75.0, took - 2), 500.0
    bad = verdict != "passed"
    pause *= chance.uniform(0.8, 1.3)
    drawn = _slices(chance, took=took, count=slices, rate=rate, fault=(begin, pause), bad=bad)
    failed = sum(each.failed for each in drawn)
    slow = sum(each.slow for each in drawn)
    requests = sum(each.asked for each in drawn)
    detect, decide, act = (chance.uniform(0.05, 0.3), chance.uniform(0.02, 0.1), chance.uniform(0.05, 0.6))
    budget = (failed + slow) / rate
    return DrillResult(
        **common,  # type: ignore[arg-type]
        verdict=verdict,
        reasons=_reasons(verdict),
        guarantees=(
            GuaranteeVerdict(
                guarantee="acknowledged is durable",
                is_kept=verdict != "failed",
                why="2 of 58,211 acknowledged transactions are not in the journal"
                if verdict == "failed"
                else "all of 58,211 acknowledged transactions are in the journal, once, in 9 nodes and in SQL",
            ),
            GuaranteeVerdict(
                guarantee=guarantee, is_kept=not bad, why=f"{failed} of {requests:,} requests failed; 0 were allowed"
            ),
            GuaranteeVerdict(guarantee="exactly once", is_kept=True, why="no id was applied twice; 311 came again"),
            GuaranteeVerdict(guarantee="read your writes", is_kept=True, why="12,400 reads were as new as asked"),
        ),
        took_s=took,
        rate_per_s=rate,
        requests=requests,
        acknowledged=requests - failed,
        failed_requests=failed,
        lost=2 if verdict == "failed" else 0,
        reordered=1 if verdict == "failed" else 0,
        longest_pause_s=max(each.longest_ms for each in drawn) / 1_000,
        availability=1 - (failed + slow) / requests,
        budget_s=budget,
        cost=budget * 41.7,
        currency="EUR",
        slices=drawn,
        moments=_moments(fault, target, begin, end, (detect, decide, act), verdict, took),
        recoveries=(
            Recovery(
                fault=fault,
                target=target,
                at=begin,
                detect_s=detect,
                decide_s=decide,
                act_s=act,
                drain_s=pause / 3,
                recovery_s=detect + decide + act + pause / 3,
                whole_after_s=end - begin + 4.1,
                longest_pause_s=pause,
                failed=failed,
                budget_s=budget,
                facts={"named_still_s": 1.2, "retried": 31.0},
            ),
            *(
                (Recovery(fault="kill", target="us-east/controller", at=begin + 20, detect_s=0.2, recovery_s=0.0),)
                if index % 4 == 1
                else ()
            ),
        ),
        checked=_checked(took, begin, end, is_bad=bad),
        findings=_findings() if verdict == "failed" else (),
    )


def samples(count: int = 30, *, slices: int = 240, seed: int = 7) -> list[DrillResult]:
    """Make so many drills up; of thirty, two failed, and one each was stopped, refused and skipped."""
    odd: dict[int, Verdict] = {4: "failed", 11: "stopped", 19: "refused", 20: "failed", 27: "skipped"}
    return [sample(index, verdict=odd.get(index, "passed"), slices=slices, seed=seed) for index in range(count)]


def _slices(
    chance: random.Random, *, took: float, count: int, rate: float, fault: tuple[float, float], bad: bool
) -> tuple[Slice, ...]:
    width = took / count
    drawn = []
    begin, pause = fault
    for index in range(count):
        at = index * width
        asked = max(1, round(rate * width * chance.uniform(0.96, 1.04)))
        p50, p99 = chance.uniform(4.2, 5.6), chance.uniform(11, 24)
        longest = p99 * chance.uniform(1.05, 2.2)
        failed = slow = 0
        if begin <= at + width and at < begin + pause:
            left = max(0.02, begin + pause - at)
            longest = max(longest, left * 1_000)
            p99 = max(p99, longest * 0.9)
            p50 = max(p50, longest * 0.4)
            slow = asked // 3 if longest > 1_000 else 0
            if bad:
                failed = round(asked * chance.uniform(0.05, 0.7))
        elif begin < at < begin + 45:
            p50, p99, longest = p50 * 1.3, p99 * 1.5, longest * 1.6
        drawn.append(
            Slice(
                at=at,
                width_s=width,
                asked=asked,
                failed=failed,
                slow=min(slow, asked - failed),
                p50_ms=p50,
                p99_ms=p99,
                longest_ms=longest,
            )
        )
    return tuple(drawn)


def _reasons(verdict: Verdict) -> tuple[str, ...]:
    match verdict:
        case "failed":
            return (
                "the hypothesis did not hold during: failed requests in a second: wanted 0, found 184 at 31.0 s",
                "a guarantee was broken: acknowledged is durable",
            )
        case "stopped":
            return ("the guard stopped it after 3.1 s of the error budget; 3 s were allowed. It was undone in 240 ms",)
        case _:
            return ()


def _moments(
    fault: str,
    target: str,
    begin: float,
    end: float,
    parts: tuple[float, float, float],
    verdict: Verdict,
    took: float,
) -> tuple[Moment, ...]:
    detect, decide, act = parts
    seen = begin + detect
    told = [
        Moment(at=begin, kind="fault", what=fault, target=target),
        Moment(at=seen, kind="detected", what=f"{target} does not answer", target=target, region="eu-north"),
        Moment(at=seen + 0.04, kind="detected", what=f"{target} does not answer", target=target, region="us-east"),
        Moment(
            at=seen + decide,
            kind="decided",
            what="take it out",
            target=target,
            region="eu-north",
            why="3 of 3 regions saw 3 probes fail in a row, and two healthy ones remain",
        ),
        Moment(at=seen + decide + act, kind="done", what="weight 0 in every nameserver", region="eu-north", took_s=act),
        Moment(at=seen + decide + act + 0.3, kind="recovered", what="clients are served as before"),
    ]
    if verdict == "stopped":
        told.append(Moment(at=took - 3, kind="stopped", what="the guard stopped the drill", why="budget: 3.1 of 3 s"))
        told.append(Moment(at=took - 2.7, kind="fault over", what=fault, target=target))
    else:
        told += [
            Moment(at=end, kind="fault over", what=fault, target=target),
            Moment(at=end + 1.1, kind="detected", what=f"{target} answers again", target=target, region="eu-north"),
            Moment(at=end + 2.0, kind="decided", what="take it in, by steps", target=target, region="eu-north"),
            Moment(at=end + 2.4, kind="done", what="weight 25, 50, 100", region="eu-north", took_s=1.7),
            Moment(at=end + 4.1, kind="recovered", what="every part runs"),
        ]
    return tuple(told)


def _checked(took: float, begin: float, end: float, *, is_bad: bool) -> tuple[Checked, ...]:
    probes = (("failed requests in a second", "0"), ("regions that serve", "at least 2"), ("p99 of writes", "< 1 s"))
    found: list[Checked] = []
    for second in range(5, int(took), 5):
        when: Literal["before", "during", "after"] = (
            "before" if second < begin else "during" if second <= end else "after"
        )
        for number, (probe, tolerance) in enumerate(probes):
            wrong = is_bad and number == 0 and second == begin
            value = ("184" if wrong else "0", "3" if when != "during" else "2", f"{17 + second % 7} ms")[number]
            found.append(Checked(at=second, when=when, probe=probe, tolerance=tolerance, value=value, holds=not wrong))
    return tuple(found)


def _findings() -> tuple[Finding, ...]:
    return (
        Finding(
            kind="lost",
            guarantee="acknowledged is durable",
            what="2 transactions were acknowledged and are in no frame of the journal.",
            history=(
                "30.912 s  client 3 -> eu-west/node-2   post 0190c3f2-8d1b-7c2e a:17 -> a:4 EUR 1,250",
                "30.931 s  client 3 <- eu-west/node-2   posted, position 18,402",
                "31.350 s  eu-north/node-1 reads frame 18,402: 0190c3f2-8d1b-7c2e is not in it",
                "75.204 s  client 3 -> us-east/node-1   get 0190c3f2-8d1b-7c2e: not found at position 40,118",
            ),
        ),
        Finding(
            kind="reordered",
            guarantee="strictly serializable",
            what="Account a:4 told client 1 a balance that no order of its transactions gives.",
            history=(
                "31.002 s  client 1 -> read a:4 (linearizable)",
                "31.020 s  client 1 <- 11,250 at 18,402",
                "31.044 s  client 1 -> read a:4 (linearizable)",
                "31.061 s  client 1 <- 10,000 at 18,405",
            ),
        ),
    )
