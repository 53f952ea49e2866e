"""Drills as a JUnit file, which every CI shows: a drill is a test case.

`failed` is a failure; `stopped` and `refused` are errors, since nothing was shown; `skipped` is skipped. The shape is
the one that Jenkins, GitLab and GitHub read: testsuites, testsuite, properties, testcase with at most one of failure,
error and skipped, then system-out.
"""

from collections.abc import Sequence
from xml.etree import ElementTree as Xml

from fivenines.drill.reporting import figures
from fivenines.drill.reporting.markup import shown
from fivenines.drill.reporting.summary import guarantees_of
from fivenines.drill.results import DrillResult

__all__ = ["junit"]

_AS = {"failed": "failure", "stopped": "error", "refused": "error", "skipped": "skipped"}


def junit(results: Sequence[DrillResult], *, written_at: float) -> bytes:
    """Write drills as JUnit's XML.

    Args:
        results: what came of them.
        written_at: Unix time, for want of a time of the drills' own.
    """
    verdicts = [each.verdict for each in results]
    totals = {
        "tests": str(len(results)),
        "failures": str(verdicts.count("failed")),
        "errors": str(verdicts.count("stopped") + verdicts.count("refused")),
        "skipped": str(verdicts.count("skipped")),
        "time": _time(sum(each.took_s for each in results)),
    }
    root = Xml.Element("testsuites", {"name": "fivenines"} | totals)
    began_at = min((each.began_at for each in results if each.began_at), default=written_at)
    suite = Xml.SubElement(
        root, "testsuite", {"name": "drills"} | totals | {"timestamp": figures.date(began_at).removesuffix("Z")}
    )
    properties = Xml.SubElement(suite, "properties")
    told = {key: value for each in results for key, value in (each.machine | each.versions).items()}
    for key, value in told.items():
        Xml.SubElement(properties, "property", {"name": shown(key), "value": shown(value)})
    for each in results:
        _case(suite, each)
    Xml.indent(root, " ")
    written: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _case(suite: Xml.Element, result: DrillResult) -> None:
    case = Xml.SubElement(
        suite, "testcase", {"classname": "drills", "name": shown(result.name), "time": _time(result.took_s)}
    )
    if result.verdict in _AS:
        message = shown("; ".join(result.reasons) or f"the drill was {result.verdict}")
        problem = Xml.SubElement(case, _AS[result.verdict], {"message": message, "type": result.verdict})
        problem.text = shown("\n".join(_wrong(result)))
    Xml.SubElement(case, "system-out").text = shown("\n".join(_told(result)))


def _wrong(result: DrillResult) -> list[str]:
    lines = list(result.reasons)
    for finding in result.findings:
        lines += [f"{finding.kind} ({finding.guarantee}): {finding.what}", *(f"  {line}" for line in finding.history)]
    return lines


def _told(result: DrillResult) -> list[str]:
    return [
        result.title,
        f"guarantees: {', '.join(guarantees_of(result)) or 'none'}",
        (
            f"requests: {result.requests}, failed: {result.failed_requests}, lost: {result.lost}, "
            f"doubled: {result.doubled}, reordered: {result.reordered}"
        ),
        (
            f"longest pause: {figures.seconds(result.longest_pause_s)}, budget: {figures.seconds(result.budget_s)}, "
            f"availability: {figures.share(result.availability)}"
        ),
        f"seed: {result.seed}",
    ]


def _time(value: float) -> str:
    return f"{value:.3f}" if 0 <= value < float("inf") else "0.000"
