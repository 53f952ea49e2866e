"""The rules: for each command a ladder of refusals, in a fixed order, with success as the last rung.

Each ladder first looks at the id: outside of the window, or decided before. Such answers leave no trace. Any other
answer, refusals too, is remembered with the id, and is the answer for ever after. Then come the accounts and amounts,
posting by posting in the order given; a posting is judged by the books as the postings before it leave them.
"""

from hashlib import blake2b

import msgspec

from fivenines.ledger.accounts import Account, Asset, HeldPosting, OpenHold, Status, salt_of
from fivenines.ledger.commands import (
    AMOUNT_MAX,
    POST_ONE_AMOUNT_MAX,
    Activate,
    ChangeAccount,
    Command,
    Hold,
    OpenAccount,
    Post,
    Posting,
    PostOne,
    RegisterAsset,
    Release,
    Settle,
)
from fivenines.ledger.decided import FINGERPRINT_PRIME, Decided, pack
from fivenines.ledger.outcomes import Outcome
from fivenines.ledger.state import RULES, Rules, State

__all__ = ["decide", "end_hold", "fingerprint"]

_ENDINGS = {
    Outcome.settled: Outcome.hold_already_settled,
    Outcome.released: Outcome.hold_already_released,
    Outcome.hold_expired: Outcome.hold_expired,
}
"""How a hold ended -> what a later settlement or release of it is told."""


def decide(state: State, command: Command, horizon: bytes, ahead: bytes) -> tuple[Outcome, Decided | None]:
    """Decide one command; of one that was decided before, return the original outcome and what is known of it.

    Ids below `horizon` have expired, ids from `ahead` on are from the future.
    """
    match command:
        case OpenAccount():
            return _open_account(state, command), None
        case RegisterAsset():
            return _register_asset(state, command), None
        case Activate():
            return _activate(state, command), None
    id = command.id
    if id < horizon:
        return Outcome.id_expired, None
    if id >= ahead:
        return Outcome.id_in_future, None
    content = fingerprint(command)
    known = state.decided.seek(id)
    if known is not None:
        return (Outcome(known.outcome), known) if known.fingerprint == content else (Outcome.id_reused, None)
    outcome: Outcome
    match command:
        case PostOne():
            outcome = _post(state, (Posting(command.source, command.destination, command.amount),))
        case Post():
            outcome = _post(state, command.postings)
        case Hold():
            outcome = _hold(state, command)
        case Settle():
            outcome = _settle(state, command)
        case Release():
            outcome = _release(state, command)
        case ChangeAccount():
            outcome = _change_account(state, command)
    state.decided.add(id, pack(outcome, content), state.position)
    return outcome, None


def fingerprint(command: Command) -> int:
    """Return a number below `FINGERPRINT_PRIME` that stands for the content of a command without its id.

    It is part of the state, so it depends on what a command says and not on how a schema spells it: fields that have
    their defaults are left out, so that a field added later changes no fingerprint that was remembered before.
    """
    match command:
        case PostOne(source=source, destination=destination, amount=amount):
            return (amount + salt_of(source) - salt_of(destination)) % FINGERPRINT_PRIME
        case Post(postings=(Posting(source=source, destination=destination, amount=amount),)) if (
            # All other fields have their defaults, those too that are added later.
            0 < amount <= POST_ONE_AMOUNT_MAX and command == Post(command.id, command.postings)
        ):
            return (amount + salt_of(source) - salt_of(destination)) % FINGERPRINT_PRIME
    tag, fields = _SPELLINGS[type(command)]
    said: list[object] = [tag]
    for name, default in fields:
        value = getattr(command, name)
        if value != default:
            said += (name, _spelled(value))
    digest = blake2b(msgspec.msgpack.encode(said), digest_size=8).digest()
    return int.from_bytes(digest, "big") % FINGERPRINT_PRIME


_SPELLINGS: dict[type[Command], tuple[object, list[tuple[str, object]]]] = {
    kind: (
        kind.__struct_config__.tag,
        [(field.name, field.default) for field in msgspec.structs.fields(kind) if field.name != "id"],
    )
    for kind in (Post, Hold, Settle, Release, OpenAccount, ChangeAccount)
}
"""What a fingerprint of the long form is made of, looked up once since asking a struct for its fields is slow: the tag,
and each field with its default."""


def _spelled(value: object) -> object:
    """Spell a field's value so that msgpack takes it, whatever its size; later fields of a posting stay out of it."""
    match value:
        case bool() | str() | bytes() | None:
            return value
        case int():
            return str(value)
        case Posting():
            return [value.source, value.destination, str(value.amount)]
        case tuple():
            return list(map(_spelled, value))
    raise AssertionError(f"a command has no such field: {value!r}")


def end_hold(state: State, hold: OpenHold, how: Outcome) -> None:
    """Give back what is left of a hold, and remember how it ended."""
    for posting in hold.postings.values():
        _unreserve(posting, posting.remaining)
    del state.holds[hold.id]
    state.ended_holds.add(hold.id, pack(how, 0), state.position)


# --- transactions ----------------------------------------------------------------------------------------------------


def _post(state: State, postings: tuple[Posting, ...]) -> Outcome:
    return _move_all(state, postings, held=False) or Outcome.posted


def _hold(state: State, command: Hold) -> Outcome:
    if command.timeout_us is not None and not 0 < command.timeout_us < 2**62:
        return Outcome.malformed
    refusal = _move_all(state, command.postings, held=True)
    if refusal is not None:
        return refusal
    accounts = state.accounts
    hold = OpenHold(command.id, {}, state.time_us + command.timeout_us if command.timeout_us is not None else None)
    for posting in command.postings:
        between = posting.source, posting.destination
        if between in hold.postings:
            hold.postings[between].remaining += posting.amount
        else:
            hold.postings[between] = HeldPosting(
                accounts[posting.source], accounts[posting.destination], posting.amount
            )
    state.holds[hold.id] = hold
    state.schedule_expiry(hold)
    return Outcome.held


def _settle(state: State, command: Settle) -> Outcome:
    hold = _find_hold(state, command.hold)
    if isinstance(hold, Outcome):
        return hold
    if any(not 0 < asked.amount <= AMOUNT_MAX for asked in command.postings):
        return Outcome.malformed
    parts = _parts_of(hold, command.postings)
    if parts is None:
        return Outcome.hold_exceeded
    for held, _ in parts:
        refusal = _refuse_status(held.source, held.destination)
        if refusal is not None:
            return refusal
    if _would_overflow(parts):
        return Outcome.total_overflow

    for held, amount in parts:
        held.source.debits += amount
        held.destination.credits += amount
        _unreserve(held, amount)
        held.remaining -= amount
        if not held.remaining:
            del hold.postings[held.source.id, held.destination.id]
    if command.final or not hold.postings:
        end_hold(state, hold, Outcome.settled)
    return Outcome.settled


def _release(state: State, command: Release) -> Outcome:
    hold = _find_hold(state, command.hold)
    if isinstance(hold, Outcome):
        return hold
    end_hold(state, hold, Outcome.released)
    return Outcome.released


def _find_hold(state: State, id: bytes) -> OpenHold | Outcome:
    hold = state.holds.get(id)
    if hold is None:
        ended = state.ended_holds.find(id)
        return Outcome.hold_unknown if ended is None else _ENDINGS[Outcome(ended.outcome)]
    if hold.expires_us is not None and hold.expires_us <= state.time_us:
        return Outcome.hold_expired  # its turn to be given back comes with one of the next frames
    return hold


def _parts_of(hold: OpenHold, asked: tuple[Posting, ...]) -> list[tuple[HeldPosting, int]] | None:
    """Return what to take of each held posting, None if more is asked than is held. Nothing asked: take it all."""
    if not asked:
        return [(held, held.remaining) for held in hold.postings.values()]
    wanted: dict[tuple[str, str], int] = {}
    for posting in asked:
        between = posting.source, posting.destination
        wanted[between] = wanted.get(between, 0) + posting.amount
    parts: list[tuple[HeldPosting, int]] = []
    for between, amount in wanted.items():
        held = hold.postings.get(between)
        if held is None or held.remaining < amount:
            return None
        parts.append((held, amount))
    return parts


def _would_overflow(parts: list[tuple[HeldPosting, int]]) -> bool:
    # The held totals fall as the posted ones rise, and each alone stays within the bound; only the posted can pass it.
    debits: dict[str, int] = {}
    credits: dict[str, int] = {}
    for held, amount in parts:
        debits[held.source.id] = debits.get(held.source.id, held.source.debits) + amount
        credits[held.destination.id] = credits.get(held.destination.id, held.destination.credits) + amount
    return max(debits.values(), default=0) > AMOUNT_MAX or max(credits.values(), default=0) > AMOUNT_MAX


def _move_all(state: State, postings: tuple[Posting, ...], *, held: bool) -> Outcome | None:
    """Carry out all postings, or none and return the refusal of the first that cannot be."""
    if not postings or any(not 0 < posting.amount <= AMOUNT_MAX for posting in postings):
        return Outcome.malformed
    for done, posting in enumerate(postings):
        refusal = _refuse_posting(state, posting, held=held)
        if refusal is not None:
            for undone in reversed(postings[:done]):
                _move(state, undone, -1, held=held)
            return refusal
        _move(state, posting, 1, held=held)
    return None


def _refuse_posting(state: State, posting: Posting, *, held: bool) -> Outcome | None:
    if posting.source == posting.destination:
        return Outcome.same_account
    source = state.accounts.get(posting.source)
    destination = state.accounts.get(posting.destination)
    if source is None or destination is None:
        return Outcome.account_unknown
    refusal = _refuse_status(source, destination)
    if refusal is not None:
        return refusal
    if source.asset is not destination.asset:
        return Outcome.asset_mismatch
    amount = posting.amount
    if source.available - amount < source.floor:
        return Outcome.insufficient_funds
    if (
        destination.ceiling is not None
        and destination.balance + destination.held_credits + amount > destination.ceiling
    ):
        return Outcome.balance_limit_exceeded
    debits, credits = (source.held_debits, destination.held_credits) if held else (source.debits, destination.credits)
    if debits + amount > AMOUNT_MAX or credits + amount > AMOUNT_MAX:
        return Outcome.total_overflow
    return None


def _refuse_status(source: Account, destination: Account) -> Outcome | None:
    if source.status == Status.open and destination.status == Status.open:
        return None
    is_closed = Status.closed in (source.status, destination.status)
    return Outcome.account_closed if is_closed else Outcome.account_frozen


def _move(state: State, posting: Posting, sign: int, *, held: bool) -> None:
    source, destination = state.accounts[posting.source], state.accounts[posting.destination]
    amount = sign * posting.amount
    if held:
        source.held_debits += amount
        destination.held_credits += amount
    else:
        source.debits += amount
        destination.credits += amount
    source.settle_lane()
    destination.settle_lane()


def _unreserve(held: HeldPosting, amount: int) -> None:
    held.source.held_debits -= amount
    held.destination.held_credits -= amount
    held.source.settle_lane()
    held.destination.settle_lane()


# --- assets, accounts, rules -----------------------------------------------------------------------------------------


def _register_asset(state: State, command: RegisterAsset) -> Outcome:
    code, slash, scale = command.asset.partition("/")
    if not code or not slash or not scale.isascii() or not scale.isdigit():
        return Outcome.malformed
    known = state.assets.get(code)
    if known is None:
        state.assets[code] = Asset(command.asset)
    elif known.name != command.asset:
        return Outcome.asset_exists
    return Outcome.done


def _open_account(state: State, command: OpenAccount) -> Outcome:
    content = fingerprint(command)
    known = state.accounts.get(command.account)
    if known is not None:
        return Outcome.done if known.opened_as == content else Outcome.account_exists
    if not command.account:
        return Outcome.malformed
    asset = state.assets.get(command.asset.partition("/")[0])
    if asset is None or asset.name != command.asset:
        return Outcome.asset_unknown
    account = Account(command.account, asset, salt=salt_of(command.account), opened_as=content)
    refusal = _limit(account, command.min_balance, command.max_balance)
    if refusal is not None:
        return refusal
    account.metadata = command.metadata
    state.accounts[command.account] = account
    return Outcome.done


def _change_account(state: State, command: ChangeAccount) -> Outcome:
    account = state.accounts.get(command.account)
    if account is None:
        return Outcome.account_unknown
    if account.status == Status.closed:
        return Outcome.account_closed
    if command.status == Status.closed and not account.is_empty:
        return Outcome.account_not_empty
    if command.limits is not None:
        refusal = _limit(account, *command.limits)
        if refusal is not None:
            return refusal
    if command.status is not None:
        account.status = Status(command.status)
    if command.metadata is not None:
        account.metadata = command.metadata
    account.settle_lane()
    return Outcome.done


def _limit(account: Account, min_balance: int | None, max_balance: int | None) -> Outcome | None:
    """Give the account new limits, unless what it has is outside of them."""
    if any(limit is not None and abs(limit) > AMOUNT_MAX for limit in (min_balance, max_balance)):
        return Outcome.malformed
    before = account.min_balance, account.ceiling
    account.limit(min_balance, max_balance)
    if account.is_within_limits:
        return None
    account.limit(*before)
    return Outcome.limits_conflict


def _activate(state: State, command: Activate) -> Outcome:
    if command.rules <= state.rules.version:
        return Outcome.rules_not_newer
    # Rules that this release does not have stop it, but only once the frame is decided to its end.
    state.rules = RULES.get(command.rules, Rules(version=command.rules))
    return Outcome.done
