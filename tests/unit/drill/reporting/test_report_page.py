import re
import shutil
import subprocess
from pathlib import Path
from xml.etree.ElementTree import Element

import msgspec
import pytest
from defusedxml import ElementTree as Xml

from fivenines.drill.reporting import write
from fivenines.drill.reporting.course import bands
from fivenines.drill.reporting.formats import SCHEMA, Report
from fivenines.drill.reporting.page import page
from fivenines.drill.reporting.sections import repeat_all, repeat_one
from fivenines.drill.results import DrillResult, Moment
from tests.unit.drill.reporting.samples import sample, samples

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


def page_of(*results: DrillResult) -> Element:
    report = Report(schema=SCHEMA, written_at=1_790_010_000.0, results=results)
    root: Element = Xml.fromstring(page(report, sha256="ab" * 32))
    return root


def text_of(element: Element | None) -> str:
    assert element is not None
    return " ".join("".join(element.itertext()).split())


def test_the_summary_says_what_came_of_all_drills() -> None:
    root = page_of(*samples(30, slices=24))

    assert text_of(root.find(".//h1")) == "3 of 28 drills did not pass"
    assert "25 passed, 2 failed, 1 stopped, 1 refused, 1 skipped" in text_of(root.find(".//section[@class='summary']"))
    rows = root.findall(".//table[@class='promises']/tbody/tr")
    assert len(rows) == 13
    assert text_of(rows[0]).startswith("acknowledged is durable")
    assert "broken" in text_of(rows[0])
    assert text_of(page_of(sample(0, slices=24), sample(1, slices=24)).find(".//h1")) == "All 2 drills passed"
    assert text_of(page_of().find(".//h1")) == "No drill was carried out"


def test_every_link_leads_somewhere_on_the_page_and_every_id_is_there_once() -> None:
    root = page_of(*samples(30, slices=24), *samples(2, slices=24))

    ids = [found for each in root.iter() if (found := each.get("id"))]
    assert len(ids) == len(set(ids))
    named = [found for each in root.iter() for found in (each.get("aria-labelledby") or "").split()]
    linked = [found[1:] for each in root.iter() if (found := each.get("href"))]
    assert len(linked) > 40
    assert {*named, *linked} <= set(ids)


def test_the_page_asks_nobody_for_anything() -> None:
    text = page(Report(schema=SCHEMA, written_at=0.0, results=(sample(4, verdict="failed"),)), sha256="")

    assert "default-src 'none'" in text.replace("&#x27;", "'")
    assert not re.search(r"https?://|\bsrc=|@import|url\(", text)


def test_a_picture_says_in_words_what_it_shows() -> None:
    root = page_of(sample(4, verdict="failed"))

    drawn = root.findall(".//figure//svg[@role='img']")
    assert len(drawn) == 2
    for each in drawn:
        assert text_of(each.find("title")) == "The course of The busiest region is cut off"
        told = text_of(each.find("desc"))
        assert "Fault: partition: eu-west, from 30.00 s to 75.00 s." in told
        assert "Decided at" in told


def test_a_failed_drill_shows_its_findings_and_their_smallest_history() -> None:
    findings = page_of(sample(4, verdict="failed", slices=24)).findall(".//div[@class='finding']")

    assert [text_of(each.find("p/strong")) for each in findings] == ["lost", "reordered"]
    assert len(findings[0].findall("ol/li")) == 4


def test_the_hypothesis_is_told_before_during_and_after() -> None:
    root = page_of(sample(4, verdict="failed", slices=24))

    rows = [[text_of(cell) for cell in row] for row in root.findall(".//table[@class='hypothesis']/tbody/tr")]
    assert rows[0][:2] == ["failed requests in a second", "0"]
    assert rows[0][2].startswith("holds")
    assert rows[0][3].startswith("fails 1 of 10 times")
    assert rows[0][4].startswith("holds")


def test_the_recovery_time_is_split_into_bars_as_long_as_their_parts() -> None:
    result = sample(0, slices=24)
    first = msgspec.structs.replace(
        result.recoveries[0], detect_s=1.0, decide_s=2.0, act_s=None, drain_s=3.0, recovery_s=6.0
    )

    root = page_of(msgspec.structs.replace(result, recoveries=(first,)))

    bar = root.find(".//svg[@class='stack']")
    assert bar is not None
    parts = {str(each.get("class")): float(str(each.get("width"))) + 1 for each in bar.findall("rect")}
    assert parts == {"detect": 40.0, "decide": 80.0, "drain": 120.0}
    assert text_of(bar.find("title")) == "detect 1.00 s, decide 2.00 s, drain 3.00 s"


def test_a_fault_ends_where_it_was_told_to_be_over_even_if_two_are_in_force() -> None:
    moments = [
        Moment(at=1.0, kind="fault", what="kill", target="a"),
        Moment(at=2.0, kind="fault", what="slow", target="b"),
        Moment(at=3.0, kind="fault over", what="kill", target="a"),
        Moment(at=4.0, kind="fault", what="stop", target="c"),
        Moment(at=5.0, kind="fault over", what="resume", target="b"),
    ]

    found = bands(moments, 9.0)

    assert [(each.what, each.at, each.until, each.is_open) for each in found] == [
        ("kill", 1.0, 3.0, False),
        ("slow", 2.0, 5.0, False),
        ("stop", 4.0, 9.0, True),
    ]


def test_a_drill_that_did_not_begin_shows_why_and_no_figures() -> None:
    root = page_of(sample(0, verdict="skipped"))

    article = root.find(".//article")
    assert article is not None
    assert "the kernel has no netem" in text_of(article)
    assert article.find("figure") is None
    assert article.find("dl") is None


def test_the_command_that_repeats_a_drill_is_safe_to_paste() -> None:
    result = msgspec.structs.replace(sample(0, slices=24), name="x; rm -r ~")

    assert repeat_one(result) == "fivenines drill run 'x; rm -r ~' --rate 500 --seed 40"


def test_drills_of_the_same_seed_and_rate_are_repeated_together() -> None:
    results = [msgspec.structs.replace(each, seed=7) for each in samples(3, slices=24)]
    results += [msgspec.structs.replace(sample(3, verdict="refused"), seed=7), sample(4, slices=24)]

    assert repeat_all(results) == [
        "fivenines drill run node-killed node-stopped node-slow edge-killed --rate 500 --seed 7",
        "fivenines drill run region-cut-off --rate 500 --seed 44",
    ]


@pytest.mark.long  # a browser on a busy machine may take minutes to begin
@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_a_browser_keeps_to_the_policy_and_runs_the_filter(tmp_path: Path) -> None:
    write(samples(6, slices=240), tmp_path)
    assert BROWSER is not None

    done = subprocess.run(
        [
            *(BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--enable-logging=stderr", "--virtual-time-budget=2000", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--dump-dom", (tmp_path / "drills.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=150,
        check=True,
    )

    assert 'aria-label="Show drills by verdict"' in done.stdout
    assert "Content Security Policy" not in done.stderr
    assert "Uncaught" not in done.stderr
