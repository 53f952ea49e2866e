"""Random frames over a small world, so that ids repeat, accounts run dry, and totals come near their bounds."""

from hypothesis import strategies as st

from fivenines.ledger import (
    POST_ONE_AMOUNT_MAX,
    Activate,
    Batch,
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

START_MS = 1_760_000_000_000
DAY_MS = 24 * 3600 * 1000
WRITER = b"w" * 16

PREAMBLE: list[Command] = [
    RegisterAsset("EUR/2"),
    RegisterAsset("USD/2"),
    OpenAccount("bank", "EUR/2", min_balance=None),
    OpenAccount("world", "EUR/2", min_balance=None),
    OpenAccount("alice", "EUR/2"),
    OpenAccount("bob", "EUR/2", min_balance=-100, max_balance=100),
    OpenAccount("dollars", "USD/2", min_balance=None),
]
ACCOUNTS = ["bank", "world", "alice", "bob", "dollars", "newcomer", "nobody"]
HELD_BETWEEN = [("bank", "alice"), ("bank", "bob"), ("world", "alice"), ("bank", "world")]
ORDINARY_AMOUNTS = [1, 2, 3, 50, 99, 100]
EDGE_AMOUNTS = [
    2**62 - 1,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**64,
    2**126 - 1,
    2**126,
    2**127 - 2,
    2**127 - 1,
]


def make_id(number: int, offset_ms: int = 0) -> bytes:
    """Make the 16 bytes of a UUIDv7 of START_MS and a little."""
    return (START_MS + offset_ms).to_bytes(6, "big") + b"\x70\x00\x80" + number.to_bytes(7, "big")


# Most ids are few and of now, so that they repeat; some stand just inside and just outside of the window.
few_ids = st.builds(make_id, st.integers(0, 11), st.sampled_from([0, 1]))
many_ids = st.builds(make_id, st.integers(0, 2**40), st.sampled_from([0, 1, 2]))
edge_ids = st.builds(
    make_id,
    st.integers(0, 1),
    st.sampled_from([-31 * DAY_MS, -30 * DAY_MS - 1, -30 * DAY_MS, 300_000, 300_001, 301_000, 40 * DAY_MS]),
)
ids = st.one_of(few_ids, many_ids, many_ids, many_ids, many_ids, many_ids, edge_ids)
hold_ids = st.builds(make_id, st.integers(0, 11), st.just(0))
accounts = st.sampled_from(["bank", "world", "alice", "bob", *ACCOUNTS])
amounts = st.one_of(st.sampled_from(ORDINARY_AMOUNTS), st.sampled_from(ORDINARY_AMOUNTS + EDGE_AMOUNTS))
odd_amounts = st.one_of(amounts, amounts, amounts, st.sampled_from([0, -1]))
postings = st.builds(Posting, accounts, accounts, odd_amounts)
metadata = st.sampled_from([None, None, b'{"note":"x"}'])
limits = st.sampled_from([None, 0, 1, -100, 100, 2**64, -(2**126), 2**127 - 1, -(2**127)])

posts_one = st.builds(PostOne, ids, accounts, accounts, amounts.filter(lambda amount: amount <= POST_ONE_AMOUNT_MAX))
posts = st.builds(
    Post,
    ids,
    st.one_of(st.tuples(st.builds(Posting, accounts, accounts, amounts)), st.lists(postings, max_size=4).map(tuple)),
    effective_date=st.sampled_from([None, None, "2026-01-31"]),
    reference=st.sampled_from([None, None, "rent"]),
    metadata=metadata,
)
holds = st.builds(
    Hold,
    hold_ids,
    st.lists(st.builds(Posting, accounts, accounts, amounts), min_size=1, max_size=3).map(tuple),
    timeout_us=st.sampled_from([None, 0, 1, 1_000, 5_000_000, 2**62 - 1, 2**62]),
)
settles = st.builds(
    Settle,
    ids,
    hold_ids,
    st.one_of(st.just(()), st.lists(postings, max_size=3).map(tuple)),
    final=st.booleans(),
)
releases = st.builds(Release, ids, hold_ids)
opens = st.builds(
    OpenAccount,
    st.sampled_from([*ACCOUNTS[:6], ""]),
    st.sampled_from(["EUR/2", "EUR/2", "USD/2", "EUR/3", "XAU/0", ""]),
    min_balance=limits,
    max_balance=limits,
    metadata=metadata,
)
changes = st.builds(
    ChangeAccount,
    ids,
    accounts,
    status=st.sampled_from([None, 0, 0, 1, 2]),
    limits=st.one_of(st.none(), st.tuples(limits, limits)),
    metadata=metadata,
)
registers = st.builds(RegisterAsset, st.sampled_from(["EUR/2", "EUR/3", "XAU/0", "EUR", "/2", "EUR/", "EUR/x", ""]))
activations = st.builds(Activate, st.sampled_from([-1, 0, 1]))

commands: st.SearchStrategy[Command] = st.one_of(
    posts_one, posts_one, posts_one, posts, posts, holds, holds, settles, settles, releases, opens, changes, registers,
    activations,
)  # fmt: skip


@st.composite
def twins(draw: st.DrawFn) -> list[Command]:
    """One posting under one id, in the short form and in the long, in either order; perhaps of another amount."""
    short = draw(posts_one)
    amount = draw(st.sampled_from([short.amount, short.amount, short.amount + 1]))
    long = Post(short.id, (Posting(short.source, short.destination, amount),))
    return draw(st.permutations([short, long]))


@st.composite
def hold_stories(draw: st.DrawFn) -> list[Command]:
    """A hold that is sure to exist, and settlements that name what it holds."""
    id = make_id(draw(st.integers(0, 2**40)) + 100)
    pairs = draw(st.lists(st.sampled_from(HELD_BETWEEN), min_size=1))
    hold = Hold(
        id,
        tuple(Posting(source, destination, draw(amounts)) for source, destination in pairs),
        timeout_us=draw(st.sampled_from([None, 1, 2_000_000])),
    )
    story: list[Command] = [hold]
    for _ in range(draw(st.integers(0, 3))):
        asked = draw(st.lists(st.sampled_from(hold.postings), max_size=3))
        parts = tuple(Posting(p.source, p.destination, draw(st.sampled_from([1, p.amount]))) for p in asked)
        story.append(Settle(draw(ids), id, parts, final=draw(st.booleans())))
    return [*story, *draw(st.lists(st.builds(Release, ids, st.just(id)), max_size=1))]


frames_of_commands = st.lists(
    st.one_of(commands.map(lambda command: [command]), twins(), hold_stories()), min_size=2, max_size=8
).map(lambda parts: [command for part in parts for command in part])
steps_ms = st.sampled_from([0, 0, 1, 1, 1_000, 6_000, -5_000, -(10**12)])
leaps_ms = st.one_of(*[steps_ms] * 8, st.sampled_from([299_000, DAY_MS, 30 * DAY_MS, 31 * DAY_MS]))


@st.composite
def journals(draw: st.DrawFn, *, steps: st.SearchStrategy[int] = leaps_ms, frames_max: int = 8) -> list[Batch]:
    """A journal that opens the accounts and then does all kinds of things with them."""
    time_us = START_MS * 1000
    batches = [Batch(WRITER, 0, time_us, PREAMBLE)]
    for sequence, found in enumerate(draw(st.lists(frames_of_commands, min_size=2, max_size=frames_max)), 1):
        time_us = max(0, time_us + draw(steps) * 1000)
        batches.append(Batch(WRITER, sequence, time_us, found))
    return batches
