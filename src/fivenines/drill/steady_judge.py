"""What came of a steady load: what clients noticed in a stretch of time, and whether the ledger kept its word.

Pure. The judge holds what was answered against what the journal comes to, and trusts neither.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from fivenines.drill.disk import OnDisk
from fivenines.drill.steady import Asked, Load, account_prefix
from fivenines.ids import as_text

__all__ = ["SLOW_S", "Stretch", "Verdict", "judge_steady", "stretch"]

_POSTED = "posted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What clients noticed between two moments."""

    requests: int
    failed: int
    longest_pause_s: float
    """The longest that any request waited."""
    p99_ms: float
    budget_s: float
    """Seconds of the error budget: of the requests of each second the part that failed, or waited for longer than
    `SLOW_S`, summed up."""
    errors: tuple[str, ...]


SLOW_S = 2.0
"""Who waits for longer than this has noticed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong with the whole of a load: nothing, if all is well."""

    acknowledged: int
    failed: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    reordered: tuple[str, ...]
    wrong_balances: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong, and there was anything to look at."""
        return self.acknowledged > 0 and not (self.lost or self.doubled or self.reordered or self.wrong_balances)


def stretch(asked: Sequence[Asked], began: float, ended: float, *, rate_per_s: float) -> Stretch:
    """Sum up the requests that were due between two moments of the monotonic clock."""
    here = [each for each in asked if began <= each.due < ended]
    failed = [each for each in here if each.error]
    latencies = sorted(each.latency_s for each in here)
    bad = len(failed) + sum(not each.error and each.latency_s > SLOW_S for each in here)
    return Stretch(
        requests=len(here),
        failed=len(failed),
        longest_pause_s=latencies[-1] if latencies else 0.0,
        p99_ms=1_000 * latencies[int(0.99 * (len(latencies) - 1))] if latencies else 0.0,
        budget_s=bad / rate_per_s,
        errors=tuple(dict.fromkeys(each.error for each in failed))[:5],
    )


def judge_steady(asked: Sequence[Asked], disk: OnDisk, load: Load) -> Verdict:
    """Hold everything that was answered against what the journal comes to.

    Lost: acknowledged, and not in the journal. Doubled: decided at two positions. Reordered: sent after another was
    answered, and decided before it. The balances of all accounts must be what was acknowledged, and nothing else but
    what nobody got an answer about.
    """
    posts = [each for each in asked if each.id]
    done = [each for each in posts if each.outcome == _POSTED]
    lost = [as_text(each.id) for each in done if each.id not in disk.carried_out]
    doubled = [
        f"{as_text(each.id)}: answered {each.position}, in the journal at {disk.carried_out[each.id]}"
        for each in done
        if each.id in disk.carried_out and each.position != disk.carried_out[each.id]
    ]
    doubled += [as_text(each) for each in disk.reused]
    wrong = []
    expected: dict[str, int] = {}
    for each in posts:
        if each.id in disk.carried_out:
            expected[each.account] = expected.get(each.account, 0) + each.amount
            if each.outcome not in {_POSTED, ""}:
                wrong.append(f"{as_text(each.id)}: answered {each.outcome}, and carried out")
    prefix = account_prefix(load)
    for account, totals in disk.accounts.items():
        if account.startswith(prefix) and account != f"{prefix}bank" and totals.balance != expected.get(account, 0):
            wrong.append(f"{account}: {totals.balance} in the place of {expected.get(account, 0)}")
    return Verdict(
        acknowledged=len(done),
        failed=sum(bool(each.error) for each in asked),
        lost=tuple(lost),
        doubled=tuple(doubled),
        reordered=tuple(_reordered(done)),
        wrong_balances=tuple(wrong),
    )


def _reordered(done: Sequence[Asked]) -> list[str]:
    """Find those that were decided before one that had been answered when they were due."""
    by_end = sorted(done, key=lambda each: each.ended)
    ends = [each.ended for each in by_end]
    highest, so_far = [0], 0
    for each in by_end:
        so_far = max(so_far, each.position)
        highest.append(so_far)
    return [
        f"{as_text(each.id)}: decided at {each.position}, after {before} was answered"
        for each in done
        if each.position < (before := highest[bisect_left(ends, each.due)])
    ]
