import hashlib
import json
import math
from pathlib import Path

import msgspec
import pytest
from defusedxml import ElementTree as Xml

from fivenines.drill.reporting import ReportUnreadableError, read, write, write_report
from fivenines.drill.reporting.formats import SCHEMA, Report, decode, encode, encode_short
from fivenines.drill.reporting.junit import junit
from fivenines.drill.results import DrillResult
from tests.unit.drill.reporting.samples import sample, samples

AT = 1_790_010_000.0


def report_of(*results: DrillResult) -> Report:
    return Report(schema=SCHEMA, written_at=AT, results=results)


def test_all_files_are_written_and_no_draft_stays(tmp_path: Path) -> None:
    paths = write(samples(5, slices=24), tmp_path / "new" / "folder")

    assert sorted(path.name for path in paths) == ["drills-full.json", "drills.html", "drills.json", "junit.xml"]
    assert sorted((tmp_path / "new" / "folder").iterdir()) == sorted(paths)


def test_the_page_names_the_hash_of_the_json_beside_it(tmp_path: Path) -> None:
    write(samples(3, slices=24), tmp_path)

    sha256 = hashlib.sha256((tmp_path / "drills-full.json").read_bytes()).hexdigest()
    assert f'<meta name="fivenines-json-sha256" content="{sha256}"/>' in (tmp_path / "drills.html").read_text()


def test_a_report_that_is_written_anew_from_its_json_is_the_same_to_the_byte(tmp_path: Path) -> None:
    first = write(samples(30, slices=24), tmp_path / "first", commands=("fivenines drill run --all --seed 7",))

    second = write_report(read(tmp_path / "first" / "drills-full.json"), tmp_path / "second")

    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_what_was_written_is_read_back() -> None:
    report = report_of(*samples(30, slices=24))

    assert decode(encode(report)) == report


def test_a_pause_without_end_is_read_back() -> None:
    result = msgspec.structs.replace(sample(0, slices=24), longest_pause_s=math.inf)

    back = decode(encode(report_of(result))).results[0]

    assert back == result
    assert json.loads(encode_short([result]))[0]["longest_pause_s"] == "Infinity"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a report of drills"),
        (b"[]", "Expected `object`"),
        (b"{}", "`schema`"),
        (b'{"schema": 2, "results": []}', "schema is 2; this version of fivenines reads 1"),
        (b'{"schema": 1, "results": []}', "`written_at`"),
        (b'{"schema": 1, "written_at": 0, "results": [{"name": 5}]}', r"\$\.results\[0\]\.name"),
        (b'\xff{"schema": 1}', "not a report of drills"),
    ],
)
def test_what_is_no_report_is_refused_with_the_place(data: bytes, says: str) -> None:
    with pytest.raises(ReportUnreadableError, match=says):
        decode(data)


def test_the_short_form_has_the_keys_that_were_promised() -> None:
    short = json.loads(encode_short([sample(4, verdict="failed", slices=24)]))

    assert [set(each) for each in short] == [
        {"name", "verdict", "guarantee", "failed_requests", "lost", "doubled", "longest_pause_s"}
    ]
    assert short[0]["name"] == "region-cut-off"
    assert short[0]["verdict"] == "failed"
    assert "edge or region lost" in short[0]["guarantee"]
    assert short[0]["lost"] == 2


def test_junit_has_the_shape_that_ci_reads() -> None:
    results = samples(30, slices=24)

    root = Xml.fromstring(junit(results, written_at=AT))

    (suite,) = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    for element in (root, suite):
        assert (element.get("tests"), element.get("failures")) == ("30", "2")
        assert (element.get("errors"), element.get("skipped")) == ("2", "1")
        assert float(element.get("time")) == pytest.approx(sum(each.took_s for each in results), abs=0.01)
    assert [each.tag for each in suite] == ["properties", *["testcase"] * 30]
    assert suite.get("timestamp") == "2026-09-21T14:13:20"
    for case, result in zip(suite.findall("testcase"), results, strict=True):
        assert case.get("name") == result.name
        expected = {"passed": [], "failed": ["failure"], "skipped": ["skipped"]}.get(result.verdict, ["error"])
        assert [each.tag for each in case] == [*expected, "system-out"]


def test_junit_tells_why_a_drill_failed_and_the_smallest_history() -> None:
    failed = sample(4, verdict="failed", slices=24)

    failure = Xml.fromstring(junit([failed], written_at=AT)).find(".//failure")

    assert failure.get("message").startswith("the hypothesis did not hold")
    assert "position 18,402" in failure.text
