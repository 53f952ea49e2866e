import math
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.drill.reporting.course import columns, fit, lanes, text_width
from fivenines.drill.results import Slice

counts = st.integers(min_value=0, max_value=10_000)
latencies = st.floats(min_value=0, max_value=60_000)


@st.composite
def courses(draw: st.DrawFn) -> list[Slice]:
    """Slices that follow each other, as a load sees them, in any order."""
    width = draw(st.sampled_from((0.05, 0.1, 1.0)))
    made = []
    for index in range(draw(st.integers(min_value=1, max_value=40))):
        p50, p99, longest = sorted((draw(latencies), draw(latencies), draw(latencies)))
        asked = draw(counts)
        failed = draw(st.integers(min_value=0, max_value=asked))
        slow = draw(st.integers(min_value=0, max_value=asked - failed))
        made.append(
            Slice(
                at=index * width,
                width_s=width,
                asked=asked,
                failed=failed,
                slow=slow,
                p50_ms=p50,
                p99_ms=p99,
                longest_ms=longest,
            )
        )
    return draw(st.permutations(made))


@settings(deadline=None, max_examples=50)
@given(courses(), st.integers(min_value=1, max_value=50))
def test_no_request_and_no_peak_is_drawn_away(slices: list[Slice], most: int) -> None:
    cols = columns(slices, most)

    assert 1 <= len(cols) <= most
    for name in ("asked", "failed", "slow"):
        assert sum(getattr(each, name) for each in cols) == sum(getattr(each, name) for each in slices)
    answered = [each for each in slices if each.asked > each.failed]
    if answered:
        assert max(each.longest_ms for each in cols) >= max(each.longest_ms for each in answered)
        assert max(each.p99_ms for each in cols) >= max(each.p99_ms for each in answered)
        assert {each.p50_ms for each in cols} <= {each.p50_ms for each in slices}
    assert all(earlier.until <= later.at + 1e-9 for earlier, later in pairwise(cols))
    assert cols[0].at == min(each.at for each in slices)
    assert cols[-1].until == pytest.approx(max(each.at + each.width_s for each in slices))


@given(
    st.lists(st.tuples(st.floats(80, 800), st.text(max_size=40)), max_size=12).map(
        lambda made: sorted(made, key=lambda one: one[0])
    )
)
def test_labels_on_a_line_cover_neither_each_other_nor_a_mark(marks: list[tuple[float, str]]) -> None:
    apart = [made for made, before in zip(marks, [(-math.inf, ""), *marks], strict=False) if made[0] - before[0] >= 12]
    at = [x for x, _ in apart]

    placed = fit(at, [text for _, text in apart], left=80, right=860, size=11)

    extents = []
    for label in placed:
        if label is not None:
            width = text_width(label.text, 11)
            left = label.x if label.anchor == "start" else label.x - width
            extents.append((left, left + width))
    assert all(left >= 80 and right <= 860 for left, right in extents)
    assert all(a[1] <= b[0] or b[1] <= a[0] for a, b in combinations(extents, 2))
    assert not [x for x in at for left, right in extents if left < x + 4 and x - 4 < right]


@given(
    st.lists(st.tuples(st.floats(0, 900), st.floats(0, 300)).map(lambda one: (one[0], one[0] + one[1])), max_size=20)
)
def test_what_would_overlap_is_in_lanes_of_its_own(extents: list[tuple[float, float]]) -> None:
    given_lanes = lanes(extents)

    assert len(given_lanes) == len(extents)
    for (a, lane_a), (b, lane_b) in combinations(zip(extents, given_lanes, strict=True), 2):
        assert lane_a != lane_b or a[1] < b[0] or b[1] < a[0]
