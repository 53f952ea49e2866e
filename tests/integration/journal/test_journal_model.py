"""Random sequences of appends, trims, reopenings and torn tails against a model: a list of payloads."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.journal import FileJournal, FileJournalSettings, show, verify
from fivenines.journal.segments import list_segments

SETTINGS = FileJournalSettings(segment_bytes=700, group_bytes_max=150, recent_bytes_max=1_000)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.binary(max_size=120), min_size=1, max_size=6)),
        st.tuples(st.just("trim"), st.integers(min_value=0, max_value=60)),
        st.tuples(st.just("reopen"), st.none()),
        st.tuples(st.just("tear"), st.binary(min_size=1, max_size=70)),
        st.tuples(st.just("read"), st.integers(min_value=1, max_value=60)),
    ),
    max_size=15,
)


@settings(max_examples=60)
@given(steps)
def test_the_journal_is_a_list_that_is_trimmed_at_its_beginning(steps: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        written = asyncio.run(carry_out(directory, steps))
        verdict = verify(directory)
        assert (verdict.last, verdict.tail, verdict.damage) == (len(written), None, None)
        assert [frame.payload for frame in show(directory, verdict.first)] == written[verdict.first - 1 :]


async def carry_out(directory: Path, steps: list[tuple[str, object]]) -> list[bytes]:
    """Carry out each step, compare with the model, and return the model: all payloads, the trimmed ones too."""
    written: list[bytes] = []
    journal = FileJournal.open(directory, settings=SETTINGS)
    for step in steps:
        first = journal.first
        match step:
            case "append", list(payloads):
                expected = list(range(len(written) + 1, len(written) + len(payloads) + 1))
                assert await asyncio.gather(*map(journal.append, payloads)) == expected
                written += payloads
            case "trim", int(before):
                await journal.trim(before)
                # Never more than asked for, and no less than whole segments allow.
                assert first <= journal.first <= max(first, before)
                later = [start for start, _ in list_segments(directory)][1:]
                assert not later or later[0] > before
            case "read", int(start) if start >= first:
                assert [frame.payload for frame in journal.read(start)] == written[start - 1 :]
            case "reopen" | "tear", garbage:
                digest = journal.last_digest
                await journal.close()
                if isinstance(garbage, bytes):
                    _, newest = list_segments(directory)[-1]
                    newest.write_bytes(newest.read_bytes() + garbage)
                journal = FileJournal.open(directory, settings=SETTINGS)
                assert journal.last_digest == digest
                assert journal.first == first
        assert journal.last == len(written)
    await journal.close()
    return written
