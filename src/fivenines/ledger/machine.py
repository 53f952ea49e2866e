"""The state machine: `apply(state, batch)` decides the commands of one frame, in order, each with one outcome.

It is deterministic: no clock, no randomness, no I/O, no order that could differ. The time is the journal's, chosen by
the frame's writer and read from the frame ever after.

Nearly all commands are transactions of one posting between ordinary accounts that succeed. The loop of `apply` decides
those in place: it makes sure of everything at once, and leaves the rest, refusals included, to `decide`, which climbs
the full ladders of `fivenines.ledger.rules`. Both ways give the same outcomes; a property test holds them together.
"""

import heapq
from dataclasses import dataclass
from hashlib import sha256

from fivenines.ledger.commands import Batch, PostOne
from fivenines.ledger.decided import FINGERPRINT_PRIME
from fivenines.ledger.outcomes import Outcome
from fivenines.ledger.rules import decide, end_hold
from fivenines.ledger.state import RULES, TIME_US_MAX, State, id_floor

__all__ = ["Applied", "RulesUnsupportedError", "apply"]


class RulesUnsupportedError(Exception):
    """The journal has activated rules that this release does not have: it must not go on. `rules` is their version."""

    def __init__(self, rules: int) -> None:
        super().__init__(f"the journal has activated rules {rules}; this release runs {sorted(RULES)}")
        self.rules = rules


@dataclass(frozen=True, slots=True)
class Applied:
    """What a frame did."""

    position: int
    time_us: int
    outcomes: list[int]
    """One `Outcome` for each command, as a plain int."""
    expired: list[bytes]
    """The holds that expired before the commands were decided."""
    repeated: dict[int, int | None]
    """Of the commands that were decided before, by their index: the position of the frame that did, None where the
    memory has lost it. Their outcomes are the original ones."""


def apply(state: State, batch: Batch) -> Applied:
    """Apply the next frame to `state`, in place.

    Raises:
        RulesUnsupportedError: the frame activates rules that are not among `RULES`. The state must not be used on.
    """
    state.position = position = state.position + 1
    state.time_us = time_us = max(state.time_us + 1, min(batch.time_us, TIME_US_MAX))
    rules = state.rules
    expired = _expire_holds(state)

    time_ms = time_us // 1000
    # Rules with a longer retention bring nothing back that was forgotten, so the horizon must not fall with them.
    state.horizon = horizon = max(state.horizon, id_floor(time_ms - rules.retention_ms))
    decided = state.decided
    decided.forget_before(horizon)
    state.ended_holds.forget_before(horizon)
    decided.top = max(decided.top, horizon)  # so that an id above the top is within the window too
    ahead = id_floor(time_ms + rules.id_ahead_ms_max + 1)

    outcomes: list[int] = []
    repeated: dict[int, int | None] = {}
    add_outcome = outcomes.append
    accounts = state.accounts
    add_id, add_value, add_position = (
        decided.tail_ids.append,
        decided.tail_values.append,
        decided.tail_positions.append,
    )
    top = decided.top
    posted = int(Outcome.posted)
    prime = FINGERPRINT_PRIME
    for command in batch.commands:
        if type(command) is PostOne:
            id = command.id
            is_newest = top < id
            if not is_newest:
                decided.top = top
            if id < ahead and (is_newest or (id >= horizon and decided.seek(id) is None)):
                try:
                    source = accounts[command.source]
                    destination = accounts[command.destination]
                except KeyError:
                    pass
                else:
                    if source.lane is destination.lane and source is not destination:
                        amount = command.amount
                        debits = source.debits + amount
                        if source.credits - debits - source.held_debits >= source.floor:
                            credits = destination.credits + amount
                            ceiling = destination.ceiling
                            if ceiling is None or credits - destination.debits + destination.held_credits <= ceiling:
                                source.debits = debits
                                destination.credits = credits
                                value = (amount + source.salt - destination.salt) % prime  # pack(posted, fingerprint)
                                if is_newest:
                                    # What DecidedIds.add does for an id above the top.
                                    add_id(id)
                                    add_value(value)
                                    add_position(position)
                                    top = id
                                else:
                                    decided.add(id, value, position)
                                add_outcome(posted)
                                continue
        decided.top = top
        outcome, known = decide(state, command, horizon, ahead)
        if known is not None:
            repeated[len(outcomes)] = known.position
        add_outcome(outcome)
        top = decided.top
    decided.top = top

    decided.seal()
    state.ended_holds.seal()
    if state.rules is not rules and state.rules.version not in RULES:
        raise RulesUnsupportedError(state.rules.version)
    state.outcomes_digest = sha256(
        b"%b%d,%d,%d:%b" % (state.outcomes_digest, position, time_us, len(expired), bytes(outcomes))
    ).digest()
    return Applied(position, time_us, outcomes, expired, repeated)


def _expire_holds(state: State) -> list[bytes]:
    """Give back what is held by the holds whose time has come, the earliest first."""
    expiries, holds = state.expiries, state.holds
    expired: list[bytes] = []
    postings_left = state.rules.expired_postings_per_frame_max
    while expiries and expiries[0][0] <= state.time_us and postings_left > 0:
        _, id = heapq.heappop(expiries)
        hold = holds.get(id)
        if hold is not None:
            postings_left -= len(hold.postings)
            end_hold(state, hold, Outcome.hold_expired)
            expired.append(id)
    # A hold that ended early leaves its entry; when most entries are of such holds, the heap is made anew.
    if len(expiries) > 1_024 + 2 * len(holds):
        state.rebuild_expiries(holds.values())
    return expired
