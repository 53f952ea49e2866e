"""The metrics of a region in one place: nothing is lost on the way, and who does not answer is told."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fivenines.platform.local.collecting import _tell, merge

labels = st.text(max_size=8)
values = st.floats(0, 1e12)


def text_of(server: str, value: float) -> str:
    """What a part with one metric of each kind says."""
    registry = CollectorRegistry()
    Counter("requests", "Requests.", ["server"], registry=registry).labels(server).inc(value)
    Gauge("lag_s", "How far behind.", ["server"], registry=registry).labels(server).set(value)
    Histogram("took_s", "How long.", ["server"], registry=registry).labels(server).observe(value)
    return generate_latest(registry).decode()


def samples_of(text: str) -> list[tuple[str, tuple[tuple[str, str], ...], float]]:
    found = [each for family in text_string_to_metric_families(text) for each in family.samples]
    return sorted((each.name, tuple(sorted(each.labels.items())), each.value) for each in found)


@given(st.dictionaries(st.sampled_from(["a-1", "a-2", "a-edge"]), st.tuples(labels, values), min_size=1))
def test_every_sample_of_every_part_is_told_once_with_its_region_and_part(parts: dict[str, tuple[str, float]]) -> None:
    texts = {part: text_of(server, value) for part, (server, value) in parts.items()}
    told = _tell("a", texts).decode()
    wanted = [
        (name, tuple(sorted((*said, ("region", "a"), ("part", part)))), value)
        for part, text in texts.items()
        for name, said, value in samples_of(text)
    ]
    wanted += [("fivenines_part_answers", (("part", part), ("region", "a")), 1.0) for part in texts]
    assert samples_of(told) == sorted(wanted)
    for line in ("# TYPE requests_total counter", "# TYPE lag_s gauge", "# TYPE took_s histogram"):
        assert told.count(line) == 1


def test_a_part_that_says_nothing_or_nonsense_does_not_keep_the_others_from_being_told() -> None:
    found = merge("a", {"a-1": None, "a-2": "no metrics {", "a-edge": text_of("s", 1.0)})
    (answers,) = (each for each in found if each.name == "fivenines_part_answers")
    assert {each.labels["part"]: each.value for each in answers.samples} == {"a-1": 0, "a-2": 0, "a-edge": 1}
    assert {each.name for each in found} >= {"requests", "lag_s", "took_s"}
