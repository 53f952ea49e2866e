"""Lies, one for each kind of violation: each is told of an honest world, and the checker must find it out.

A lie changes as little as one that really happened would: where the ledger itself went wrong, the frames are changed
and every witness tells of the changed ones, so that only the clients know better.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

from bench.checker import command_of
from fivenines.drill.checker import ArchiveSaid, Effected, Evidence, NodeSaid, SqlSaid, Told
from fivenines.drill.checker.course import Totals
from fivenines.drill.load.asked import Asked
from fivenines.drill.results import Guarantee
from fivenines.ledger import Post, Posting
from tests.property.checker.honest import ACCOUNTS, BANK, CUSTOMERS, DONE, PURSE, PURSE_MAX, TEST, World

__all__ = ["PLANTED", "Lie"]

Lie = Callable[[World, Random], Evidence | None]
"""Tells a lie; None: the world has nothing that it could be told of."""
T = TypeVar("T")

PLANTED: dict[str, tuple[str, Guarantee, Lie]] = {}
"""By name: the kind of finding that must come of it, the guarantee that it must name, and the lie."""


def planted(kind: str, guarantee: Guarantee) -> Callable[[Lie], Lie]:
    def note(lie: Lie) -> Lie:
        PLANTED[lie.__name__] = (kind, guarantee, lie)
        return lie

    return note


def some(chance: Random, found: Sequence[T]) -> T | None:
    return chance.choice(found) if found else None


def acknowledged(asked: Sequence[Asked], *kinds: str) -> list[Asked]:
    return [each for each in asked if each.outcome in DONE and (not kinds or each.kind in kinds)]


def place_of(world: World, asked: Asked) -> tuple[int, int]:
    """The first frame that asks for it, and where in there."""
    wanted = command_of(asked)
    for number, commands in enumerate(world.batches):
        if wanted in commands:
            return number, commands.index(wanted)
    raise AssertionError(asked)


def reads(evidence: Evidence, *kinds: str) -> list[Asked]:
    return [each for each in evidence.asked if each.outcome == "read" and each.kind in kinds]


# --- what the ledger did


@planted("lost", "acknowledged is durable")
def acknowledged_and_lost(world: World, chance: Random) -> Evidence | None:
    victim = some(chance, acknowledged(world.asked))
    if victim is None:
        return None
    command = command_of(victim)
    world.batches = [[each for each in commands if each != command] for commands in world.batches]
    return world.evidence()


@planted("doubled", "exactly once")
def carried_out_again(world: World, chance: Random) -> Evidence | None:
    """The retry of a transaction was answered as if it had been carried out by the later frame."""
    victim = some(chance, acknowledged(world.asked))
    if victim is None:
        return None
    world.batches.append([command_of(victim)])
    victim.position = len(world.batches)
    return world.evidence()


@planted("doubled", "exactly once")
def id_with_other_content(world: World, chance: Random) -> Evidence | None:
    victim = some(chance, acknowledged(world.asked, "post"))
    if victim is None:
        return None
    world.batches.append([Post(victim.id, (Posting(victim.source, victim.destination, victim.amount + 1),))])
    return world.evidence()


@planted("reordered", "strictly serializable")
def decided_before_what_was_answered(world: World, chance: Random) -> Evidence | None:
    """The ledger decides a write in a frame before one that somebody had heard of; and everybody agrees that it did."""
    posts = acknowledged(world.asked, "post", "hold")
    pairs = [(one, two) for one in posts for two in posts if one.ended < two.sent]
    pair = some(chance, pairs)
    if pair is None:
        return None
    _, late = pair
    number, _ = place_of(world, late)
    command = command_of(late)
    world.batches[number].remove(command)
    first = place_of(world, pair[0])[0]
    world.batches[first].insert(0, command)
    evidence = world.evidence()
    decided = world.ledger().decided
    for each in evidence.asked:
        if each.outcome and each.id:
            each.outcome, each.position = decided[each.id]
    return evidence


@planted("altered", "strictly serializable")
def another_amount(world: World, chance: Random) -> Evidence | None:
    victim = some(chance, acknowledged(world.asked, "post"))
    if victim is None:
        return None
    victim.amount += 1
    return world.evidence()


# --- what clients were told


@planted("done though refused", "exactly once")
def refused_and_done(world: World, chance: Random) -> Evidence | None:
    victim = some(chance, acknowledged(world.asked))
    if victim is None:
        return None
    victim.outcome = "insufficient_funds"
    return world.evidence()


@planted("done though refused", "overload is shed")
def shed_and_done(world: World, chance: Random) -> Evidence | None:
    victim = some(chance, acknowledged(world.asked))
    if victim is None:
        return None
    victim.outcome, victim.position, victim.error = "", 0, "HTTP status 503"
    victim.is_undone = victim.is_refused = True
    return world.evidence()


@planted("lost", "acknowledged is durable")
def acknowledged_and_refused(world: World, chance: Random) -> Evidence | None:
    victim = some(chance, [each for each in world.asked if each.outcome == "insufficient_funds"])
    if victim is None:
        return None
    victim.outcome = "held" if victim.kind == "hold" else "posted"
    return world.evidence()


@planted("contradicted", "strictly serializable")
def refused_for_another_reason(world: World, chance: Random) -> Evidence | None:
    victim = some(chance, [each for each in world.asked if each.outcome == "insufficient_funds"])
    if victim is None:
        return None
    victim.outcome = "account_frozen"
    return world.evidence()


@planted("contradicted", "strictly serializable")
def another_position(world: World, chance: Random) -> Evidence | None:
    victim = some(chance, acknowledged(world.asked))
    if victim is None:
        return None
    victim.position = len(world.batches) + 1
    return world.evidence()


@planted("hold settled twice", "exactly once")
def a_second_settlement_is_acknowledged(world: World, chance: Random) -> Evidence | None:
    held = {each.id for each in acknowledged(world.asked, "hold")}
    ended = {each.hold for each in acknowledged(world.asked, "settle", "release") if each.is_final}
    again = [
        each
        for each in world.asked
        if each.outcome in {"hold_already_settled", "hold_already_released"} and each.hold in held & ended
    ]
    victim = some(chance, again)
    if victim is None:
        return None
    victim.outcome = "settled" if victim.kind == "settle" else "released"
    return world.evidence()


# --- what readers were told


@planted("wrong read", "strictly serializable")
def a_balance_that_never_was(world: World, chance: Random) -> Evidence | None:
    evidence = world.evidence()
    victim = some(chance, reads(evidence, "read"))
    if victim is None:
        return None
    victim.balances = {name: balance + 1 for name, balance in victim.balances.items()}
    return evidence


@planted("wrong read", "strictly serializable")
def a_state_that_is_not_there_yet(world: World, chance: Random) -> Evidence | None:
    evidence = world.evidence()
    victim = some(chance, reads(evidence, "read"))
    if victim is None:
        return None
    victim.position = len(world.batches) + 1
    return evidence


@planted("stale read", "read your writes")
def less_than_the_client_had_seen(world: World, chance: Random) -> Evidence | None:
    evidence = world.evidence()
    return _aged(world, evidence, chance, [each for each in reads(evidence, "read") if not each.is_linearizable])


@planted("not linearizable", "strictly serializable")
def less_than_anybody_had_seen(world: World, chance: Random) -> Evidence | None:
    evidence = world.evidence()
    found = [each for each in reads(evidence, "read", "total") if each.is_linearizable]
    for each in found:
        ended = [other for other in evidence.asked if other.outcome and other.ended < each.sent]
        # Its own client had not seen as much: that is another rule.
        each.at_least = max((other.position for other in ended), default=0)
    return _aged(world, evidence, chance, found)


def _aged(world: World, evidence: Evidence, chance: Random, found: Sequence[Asked]) -> Evidence | None:
    """Let a read show an older state, as it was then."""
    victim = some(chance, [each for each in found if each.at_least > 2])
    if victim is None:
        return None
    victim.position = chance.randint(2, victim.at_least - 1)
    books = world.ledger().books[victim.position]
    victim.balances = {name: books[name].balance for name in victim.balances}
    return evidence


@planted("sum changed", "strictly serializable")
def money_between_accounts(world: World, chance: Random) -> Evidence | None:
    """A reading in the middle of a transaction: it has left one account, and not come to the other."""
    evidence = world.evidence()
    totals = reads(evidence, "total")
    if len(totals) < 2:
        return None
    victim = chance.choice(totals)
    name = chance.choice(TEST)
    victim.balances = victim.balances | {name: victim.balances[name] - 1}
    return evidence


@planted("no order explains it", "strictly serializable")
def a_reading_of_two_moments(world: World, chance: Random) -> Evidence | None:
    """Its sum is right, and it never was so."""
    evidence = world.evidence()
    victim = some(chance, reads(evidence, "total"))
    if victim is None:
        return None
    one, two = TEST[:2]
    moved = 10_000  # more than there ever was
    victim.balances = victim.balances | {
        one: victim.balances[one] + moved,
        two: victim.balances[two] - moved,
    }
    return evidence


# --- what nodes have


def _node_with(evidence: Evidence, chance: Random, change: Callable[[dict[str, Totals]], None]) -> Evidence:
    nodes = list(evidence.nodes)
    number = chance.randrange(len(nodes))
    accounts = dict(nodes[number].accounts)
    for name in ACCOUNTS:
        accounts.setdefault(name, Totals())
    change(accounts)
    nodes[number] = replace(nodes[number], accounts=accounts)
    return replace(evidence, nodes=nodes)


@planted("books differ", "strictly serializable")
def a_node_that_did_it_twice(world: World, chance: Random) -> Evidence | None:
    def change(accounts: dict[str, Totals]) -> None:
        bank, customer = accounts[BANK], accounts[CUSTOMERS[0]]
        accounts[BANK] = bank._replace(debits=bank.debits + 5)
        accounts[CUSTOMERS[0]] = customer._replace(credits=customer.credits + 5)

    return _node_with(world.evidence(), chance, change)


@planted("money made or lost", "strictly serializable")
def a_node_that_makes_money(world: World, chance: Random) -> Evidence | None:
    def change(accounts: dict[str, Totals]) -> None:
        name = chance.choice(ACCOUNTS)
        accounts[name] = accounts[name]._replace(credits=accounts[name].credits + 1)

    return _node_with(world.evidence(), chance, change)


@planted("beyond a limit", "strictly serializable")
def a_node_with_a_full_purse(world: World, chance: Random) -> Evidence | None:
    def change(accounts: dict[str, Totals]) -> None:
        purse, bank = accounts[PURSE], accounts[BANK]
        accounts[PURSE] = purse._replace(credits=purse.credits + PURSE_MAX + 1)
        accounts[BANK] = bank._replace(debits=bank.debits + PURSE_MAX + 1)

    return _node_with(world.evidence(), chance, change)


@planted("beyond a limit", "strictly serializable")
def a_read_below_nothing(world: World, chance: Random) -> Evidence | None:
    evidence = world.evidence()
    victim = some(chance, [each for each in reads(evidence, "read") if each.destination not in {BANK, ""}])
    if victim is None or not victim.balances:
        return None
    victim.balances = dict.fromkeys(victim.balances, -1)
    return evidence


@planted("books differ", "strictly serializable")
def a_node_that_decided_otherwise(world: World, chance: Random) -> Evidence | None:
    evidence = world.evidence()
    nodes = [replace(each, outcomes=bytes(32)) if each.outcomes else each for each in evidence.nodes]
    return replace(evidence, nodes=nodes)


@planted("books differ", "acknowledged is durable")
def a_node_beyond_the_journal(world: World, chance: Random) -> Evidence | None:
    """The journal has lost its end."""
    evidence = world.evidence()
    return replace(evidence, frames=evidence.frames[:-1], until=0)


# --- what histories have


@planted("broken chain", "corruption is found")
def a_frame_that_does_not_follow(world: World, chance: Random) -> Evidence | None:
    evidence = world.evidence()
    frames = list(evidence.frames)
    number = chance.randrange(len(frames))
    frames[number] = _changed(frames[number], digest=bytes(32))
    return replace(evidence, frames=frames)


def _changed(frame: Any, **changes: Any) -> Any:
    return type(frame)(**{name: getattr(frame, name) for name in frame.__struct_fields__} | changes)


def _archive_with(evidence: Evidence, change: Callable[[dict[int, bytes]], None]) -> Evidence:
    digests = dict(evidence.archives["x"].digests)
    change(digests)
    return replace(evidence, archives={**evidence.archives, "x": ArchiveSaid(digests=digests)})


@planted("missing from an archive", "acknowledged is durable")
def an_archive_with_a_gap(world: World, chance: Random) -> Evidence | None:
    def change(digests: dict[int, bytes]) -> None:
        del digests[chance.choice(list(digests))]

    return _archive_with(world.evidence(), change)


@planted("archive differs", "corruption is found")
def an_archive_with_another_frame(world: World, chance: Random) -> Evidence | None:
    return _archive_with(world.evidence(), lambda digests: digests.update({chance.choice(list(digests)): bytes(32)}))


@planted("archive differs", "corruption is found")
def an_archive_that_is_damaged(world: World, chance: Random) -> Evidence | None:
    evidence = world.evidence()
    damaged = replace(evidence.archives["y"], damaged=("segment 1: byte 17: it is damaged",))
    return replace(evidence, archives={**evidence.archives, "y": damaged})


def _told_with(
    world: World, chance: Random, change: Callable[[list[Told]], object], *, least: int = 1
) -> Evidence | None:
    """Change what a feed or a database tells."""
    where = chance.choice((_events_with, _sql_with))
    return where(world, change) if len(world.ledger().told) >= least else None


def _events_with(world: World, change: Callable[[list[Told]], object]) -> Evidence:
    evidence = world.evidence()
    feed = evidence.feeds["a"]
    told = list(feed.events)
    change(told)
    return replace(evidence, feeds={**evidence.feeds, "a": replace(feed, events=told)})


def _sql_with(world: World, change: Callable[[list[Told]], object]) -> Evidence:
    evidence = world.evidence()
    sql = evidence.sql["sql"]
    told = list(sql.transactions)
    change(told)
    return replace(evidence, sql={**evidence.sql, "sql": replace(sql, transactions=told)})


@planted("missing from history", "acknowledged is durable")
def a_history_with_a_gap(world: World, chance: Random) -> Evidence | None:
    return _told_with(world, chance, lambda told: told.pop(chance.randrange(len(told))))


@planted("missing from history", "acknowledged is durable")
def a_history_that_is_behind(world: World, chance: Random) -> Evidence | None:
    evidence = world.evidence()
    last = len(evidence.frames)
    ledger = world.ledger()
    behind = SqlSaid(
        position=last - 1,
        transactions=[each for each in ledger.written if each.position < last],
        accounts=ledger.books[last - 1],
    )
    return replace(evidence, sql={"sql": behind})


@planted("doubled in history", "exactly once")
def told_twice(world: World, chance: Random) -> Evidence | None:
    return _told_with(world, chance, lambda told: told.append(chance.choice(told)))


@planted("reordered in history", "strictly serializable")
def told_in_another_order(world: World, chance: Random) -> Evidence | None:
    def change(told: list[Told]) -> None:
        number = chance.randrange(len(told) - 1)
        told[number : number + 2] = reversed(told[number : number + 2])

    return _told_with(world, chance, change, least=2)


@planted("history differs", "strictly serializable")
def told_otherwise(world: World, chance: Random) -> Evidence | None:
    def change(told: list[Told]) -> None:
        number = chance.randrange(len(told))
        outcome = "account_closed" if told[number].outcome in DONE else "posted"
        told[number] = told[number]._replace(outcome=outcome)

    return _told_with(world, chance, change)


@planted("history differs", "strictly serializable")
def told_of_what_never_was(world: World, chance: Random) -> Evidence | None:
    def change(told: list[Told]) -> None:
        told.append(Told(told[-1].position, told[-1].item + 1, bytes(16), "post", "posted"))

    return _told_with(world, chance, change)


# What a transaction was told to ask for, or to do: each lie once in a feed, and once in SQL.


def _another_amount(told: Told, _all: Sequence[Told]) -> Told:
    first, *others = told.postings or ()
    return _asking(told, Posting(first.source, first.destination, first.amount + 1), *others)


def _swapped_accounts(told: Told, _all: Sequence[Told]) -> Told:
    first, *others = told.postings or ()
    return _asking(told, Posting(first.destination, first.source, first.amount), *others)


def _asking(told: Told, *postings: Posting) -> Told:
    effects = told.effects
    if effects is not None:
        effect = told.kind if told.outcome in DONE else "refused"
        rest = [each for each in effects if each.effect in {"settle_rest", "give_back"}]
        asked = [Effected(effect, each.source, each.destination, each.amount) for each in postings]
        effects = tuple(sorted([*asked, *rest]))
    return told._replace(postings=postings, amount=sum(each.amount for each in postings), effects=effects)


def _a_foreign_hold(told: Told, all: Sequence[Told]) -> Told:
    others = [each.id for each in all if each.kind == "hold" and each.id != told.hold]
    return told._replace(hold=others[0] if others else bytes(16))


def _another_finality(told: Told, _all: Sequence[Told]) -> Told:
    return told._replace(is_final=not told.is_final)


def _another_rest(told: Told, _all: Sequence[Told]) -> Told:
    effects = [
        each if each.effect not in {"settle_rest", "give_back"} else each._replace(amount=each.amount + 1)
        for each in told.effects or ()
    ]
    return told._replace(effects=tuple(effects))


def _another_effect(told: Told, _all: Sequence[Told]) -> Told:
    return told._replace(effects=tuple(each._replace(effect="refused") for each in told.effects or ()))


def _says(where: Any, is_victim: Callable[[Told], object], change: Callable[[Told, Sequence[Told]], Told]) -> Lie:
    def lie(world: World, chance: Random) -> Evidence | None:
        victims = [number for number, each in enumerate(world.ledger().written) if is_victim(each)]
        number = some(chance, victims)
        if number is None:
            return None

        def alter(told: list[Told]) -> None:
            told[number] = change(told[number], told)

        evidence: Evidence = where(world, alter)
        return evidence

    return lie


def _plant_what_is_said() -> None:
    for where, place in (("events", _events_with), ("sql", _sql_with)):
        lies: list[Lie] = [
            _says(place, lambda told: told.postings, _another_amount),
            _says(place, lambda told: told.postings, _swapped_accounts),
            _says(place, lambda told: told.hold, _a_foreign_hold),
            _says(place, lambda told: told.kind == "settle", _another_finality),
        ]
        for name, lie in zip(("another_amount", "swapped_accounts", "foreign_hold", "finality"), lies, strict=True):
            PLANTED[f"{name}_in_{where}"] = "history differs", "strictly serializable", lie
    rests = {"settle_rest", "give_back"}
    PLANTED["another_rest_in_sql"] = (
        "history differs",
        "strictly serializable",
        _says(_sql_with, lambda told: {each.effect for each in told.effects or ()} & rests, _another_rest),
    )
    PLANTED["another_effect_in_sql"] = (
        "history differs",
        "strictly serializable",
        _says(_sql_with, lambda told: told.outcome in DONE and told.effects, _another_effect),
    )


_plant_what_is_said()


@planted("hold settled twice", "exactly once")
def a_history_with_two_settlements(world: World, chance: Random) -> Evidence | None:
    done = [each for each in world.ledger().told if each.outcome == "settled" and each.is_final]
    victim = some(chance, done)
    if victim is None:
        return None
    again = victim._replace(id=bytes(16), position=len(world.batches), item=1_000)
    return _told_with(world, chance, lambda told: told.append(again))


@planted("money made or lost", "strictly serializable")
def a_history_that_makes_money(world: World, chance: Random) -> Evidence | None:
    return _rows_with(world, chance, lambda totals: totals._replace(credits=totals.credits + 1))


@planted("books differ", "strictly serializable")
def a_history_that_lacks_a_change(world: World, chance: Random) -> Evidence | None:
    return _rows_with(world, chance, lambda _totals: None)


def _rows_with(world: World, chance: Random, change: Callable[[Totals], Totals | None]) -> Evidence | None:
    evidence = world.evidence()
    rows = list(evidence.sql["sql"].balances or ())
    number = chance.randrange(len(rows))
    position, account, totals = rows.pop(number)
    changed = change(totals)
    if changed is not None:
        rows.insert(number, (position, account, changed))
    return replace(evidence, sql={"sql": replace(evidence.sql["sql"], balances=rows)})


@planted("not heard", "acknowledged is durable")
def a_node_that_does_not_answer(world: World, chance: Random) -> Evidence | None:
    evidence = world.evidence()
    nodes: list[NodeSaid] = [each for each in evidence.nodes if each.node != "b"]
    return replace(evidence, nodes=nodes, unheard={"node b": "no route to host"})
