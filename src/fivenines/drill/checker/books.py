"""The judge of the demo's books: compares what everybody says, believes nobody, and says what is wrong.

Four witnesses are heard, and none of them knows of the others:

- the **client's ears**: the first answer to each transaction, taken down on the wire (`record.Recorder`);
- the **disk**: what the frames of the journal come to, worked out anew (`disk.OnDisk`);
- the **ledger**, after it was stopped and started once more: the totals of its accounts, its event feed, and what it
  answers when everything is sent again (`witness.Witness`);
- the **books**: the balances that the data itself states.

Each check is a function from `Evidence` to a `Finding`; `judge` hears them all. A finding counts what is wrong and
gives a few examples, so a report can name them.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

from fivenines.drill.disk import OnDisk, Totals
from fivenines.drill.record import Answer
from fivenines.ledger import Outcome

__all__ = ["CHECKS", "Evidence", "Finding", "judge"]

_EXAMPLES_MAX = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the witnesses said."""

    answers: Mapping[bytes, Answer]
    """The first answer that the client heard about each transaction."""
    changed: Sequence[tuple[bytes, Answer]]
    """Later answers that differ from the first."""
    disk: OnDisk
    accounts: Mapping[str, Totals]
    """What the ledger says went through each account."""
    wrong_in_themselves: Sequence[str]
    """Accounts whose balance, as the ledger says it, is not their credits - debits."""
    decisions: Mapping[bytes, Sequence[Answer]]
    """What the ledger's event feed says about each transaction."""
    sent_again: Mapping[bytes, Answer]
    """What the ledger answered when everything was sent once more."""
    accounts_after: Mapping[str, Totals]
    """What it says of the accounts after that."""
    nodes: Mapping[str, tuple[int, str, Mapping[str, Totals]]]
    """What each node says, by its address: its position, the chain over all outcomes up to there, its accounts."""
    stated: Mapping[str, int]
    """The last balance of each account that the data states."""
    stated_by_date: Mapping[tuple[str, str], int]
    """The balance of each account, after each date on which it moved (ISO 8601), that the data states."""
    unfounded: Sequence[str] = ()
    """Of those, what the importer made of the data and no row states."""
    was_replayed: bool = True
    """Whether the books were replayed to their end."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    """A sentence of what must hold."""
    looked_at: int
    wrong: int
    examples: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong, and there was anything to look at: a judge who saw nothing passes nobody."""
        return self.wrong == 0 and self.looked_at > 0


def lost(evidence: Evidence) -> Finding:
    """Find the acknowledged transactions that are not on disk, that the event feed does not tell of, or both."""
    done = [id for id, answer in evidence.answers.items() if _moves(answer)]
    examples = {}
    for id in done:
        if id not in evidence.disk.carried_out:
            examples[id] = "acknowledged, and not in the journal"
        elif not any(map(_moves, evidence.decisions.get(id, ()))):
            examples[id] = "acknowledged, and the ledger does not know it"
    return _finding("every acknowledged transaction is there", len(done), _told(examples))


def doubled(evidence: Evidence) -> Finding:
    """Find the transactions that were carried out twice, by what the ledger tells and by what it answers."""
    examples = {}
    for id, told in evidence.decisions.items():
        if sum(map(_moves, told)) > 1:
            examples[id] = "the ledger tells of it twice"
    for id, answer in (*evidence.changed, *evidence.sent_again.items()):
        first = evidence.answers.get(id)
        if first is None or not (_moves(first) and _moves(answer)):
            continue
        if None not in {first.position, answer.position} and first.position != answer.position:
            examples[id] = f"decided at {first.position}, and again at {answer.position}"
    return _finding("and there once", len(evidence.decisions), _told(examples))


def wrong_answers(evidence: Evidence) -> Finding:
    """Find the answers that were not the truth: refused and yet carried out, or another answer the second time."""
    examples = {}
    for id, answer in evidence.answers.items():
        told = evidence.decisions.get(id, ())
        if not _moves(answer) and (id in evidence.disk.carried_out or any(map(_moves, told))):
            examples[id] = f"answered {answer.outcome}, and carried out"
        elif any(each.outcome != answer.outcome for each in told):
            examples[id] = f"answered {answer.outcome}, decided {told[0].outcome}"
        elif answer.position is not None and answer.position != evidence.disk.found_at(id):
            examples[id] = f"answered from {answer.position}, found at {evidence.disk.found_at(id)}"
        again = evidence.sent_again.get(id)
        if again is None:
            examples.setdefault(id, "not answered when it was sent again")
        elif again.outcome != answer.outcome:
            examples.setdefault(id, f"answered {answer.outcome}, and {again.outcome} when it was sent again")
    for id, answer in evidence.changed:
        if answer.outcome != evidence.answers[id].outcome:
            examples[id] = f"answered {evidence.answers[id].outcome}, then {answer.outcome}"
    return _finding("each answer is true, and the same when asked again", len(evidence.answers), _told(examples))


def strays(evidence: Evidence) -> Finding:
    """Find transactions that moved money and that nobody was told of, or that were reused for other content."""
    unheard = evidence.disk.carried_out.keys() - evidence.answers
    examples = dict.fromkeys(unheard, "carried out, and never acknowledged")
    examples |= dict.fromkeys(evidence.disk.reused, "found with two contents")
    examples |= dict.fromkeys(evidence.decisions.keys() - evidence.answers, "told of, and never asked for")
    told = _told(examples)
    if evidence.disk.foreign:
        told.append(f"{evidence.disk.foreign} commands in the journal that no books have")
    return _finding("nothing moved that nobody asked for", len(evidence.disk.carried_out), told)


def wrong_totals(evidence: Evidence) -> Finding:
    """Find accounts whose totals, as the ledger says them, are not what the frames on disk come to."""
    told = [f"{id}: its balance is not its credits - debits" for id in evidence.wrong_in_themselves]
    for id in sorted(evidence.accounts.keys() | evidence.disk.accounts):
        says, is_ = evidence.accounts.get(id), evidence.disk.accounts.get(id)
        if says != is_:
            told.append(f"{id}: the ledger has {_brief(says)}, the journal comes to {_brief(is_)}")
    return _finding("every account's totals follow from the journal", len(evidence.disk.accounts), told)


def wrong_balances(evidence: Evidence) -> Finding:
    """Find accounts that do not end with the balance that the data states."""
    told = []
    for id, stated in evidence.stated.items():
        says = evidence.accounts.get(id)
        if says is None or says.balance != stated:
            told.append(f"{id}: the data states {stated}, the ledger has {says.balance if says else 'no such account'}")
    if not evidence.was_replayed:
        told.append("the books were not replayed to their end")
    return _finding("every balance is the data's own", len(evidence.stated), told)


def wrong_days(evidence: Evidence) -> Finding:
    """Find the account-days after which the frames on disk do not come to the balance that the data states."""
    told = list(evidence.unfounded)
    balances: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for (id, date), stated in evidence.stated_by_date.items():
        balances[id].append((date, stated))
    for id, days in balances.items():
        gained = evidence.disk.by_date.get(id, {})
        balance, dates = 0, sorted(gained, reverse=True)
        for date, stated in sorted(days):
            while dates and dates[-1] <= date:
                balance += gained[dates.pop()]
            if balance != stated:
                told.append(f"{id} after {date}: the data states {stated}, the journal comes to {balance}")
    return _finding("so is the balance after each account-day", len(evidence.stated_by_date), told)


def imbalance(evidence: Evidence) -> Finding:
    """Find the assets of which money was made or lost."""
    sums: dict[str, int] = defaultdict(int)
    for totals in evidence.accounts.values():
        sums[totals.asset] += totals.balance
    told = [f"{asset}: the balances come to {total}" for asset, total in sorted(sums.items()) if total]
    return _finding("each asset sums to zero", len(sums), told)


def moved_by_repeats(evidence: Evidence) -> Finding:
    """Find accounts that moved when everything was sent a second time."""
    told = [
        f"{id}: {_brief(evidence.accounts.get(id))}, then {_brief(evidence.accounts_after.get(id))}"
        for id in sorted(evidence.accounts.keys() | evidence.accounts_after.keys())
        if evidence.accounts.get(id) != evidence.accounts_after.get(id)
    ]
    return _finding("sending everything again moves nothing", len(evidence.sent_again), told)


def differing_nodes(evidence: Evidence) -> Finding:
    """Find the nodes that do not say what the first one says, when all are at one position."""
    told = []
    first = next(iter(evidence.nodes.values()), None)
    for address, said in evidence.nodes.items():
        assert first is not None
        if said[:2] != first[:2]:
            told.append(
                f"{address} is at {said[0]} with outcomes {said[1][:12]}, not at {first[0]} with {first[1][:12]}"
            )
        wrong = [id for id in sorted(said[2].keys() | first[2].keys()) if said[2].get(id) != first[2].get(id)]
        told += [f"{address}: {id} is {_brief(said[2].get(id))}, not {_brief(first[2].get(id))}" for id in wrong]
    return _finding("all nodes hold the same", len(evidence.nodes), told)


CHECKS: Mapping[str, Callable[[Evidence], Finding]] = {
    "lost": lost,
    "doubled": doubled,
    "wrong_answers": wrong_answers,
    "strays": strays,
    "wrong_balances": wrong_balances,
    "wrong_days": wrong_days,
    "wrong_totals": wrong_totals,
    "imbalance": imbalance,
    "moved_by_repeats": moved_by_repeats,
    "differing_nodes": differing_nodes,
}
"""Every check, under the name that its count has in the report."""


def judge(evidence: Evidence) -> dict[str, Finding]:
    """Hear every check."""
    return {name: check(evidence) for name, check in CHECKS.items()}


def _moves(answer: Answer) -> bool:
    return answer.outcome == Outcome.posted.name


def _told(examples: Mapping[bytes, str]) -> list[str]:
    return [f"{UUID(bytes=id)}: {what}" for id, what in sorted(examples.items())]


def _finding(check: str, looked_at: int, told: Sequence[str]) -> Finding:
    return Finding(check, looked_at, len(told), tuple(islice(told, _EXAMPLES_MAX)))


def _brief(totals: Totals | None) -> str:
    return "no such account" if totals is None else f"-{totals.debits} +{totals.credits} {totals.asset}"
