"""The metrics of a region in one place: each part's own, as Prometheus reads them, with the names of region and part.

Whoever collects metrics asks the agent of each region, and need not know which parts there are just now. A part that
does not answer is told as such: `fivenines_part_answers` is 0 for it, and the others are told all the same.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence

import httpx
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from fivenines.client.shell import unused_tls
from fivenines.platform.local.program import Program
from fivenines.platform.topology import PORTS, RegionPlace

__all__ = ["collect", "merge", "sources"]

_PORTS = {
    "edge": PORTS.edge_stats,
    "historian": PORTS.historian,
    "journal": PORTS.journal,
    "nameserver": PORTS.nameserver_metrics,
}
_ANSWER_S_MAX = 2.0


def sources(place: RegionPlace, programs: Iterable[Program]) -> dict[str, str]:
    """Say where each part of a region offers metrics, by its name. Services of users are theirs to collect."""
    found = {}
    for program in programs:
        port = place.node_port(program.name) if program.role == "node" else _PORTS.get(program.role)
        if port is not None:
            found[program.name] = f"http://{place.host}:{port}/metrics"
    return found


async def collect(region: str, urls: Mapping[str, str]) -> bytes:
    """Ask all parts for their metrics, and return them in the text format of Prometheus."""
    async with httpx.AsyncClient(trust_env=False, verify=unused_tls(), timeout=_ANSWER_S_MAX) as http:
        answers = await asyncio.gather(*(_ask(http, url) for url in urls.values()))
    texts = dict(zip(urls, answers, strict=True))
    return await asyncio.to_thread(_tell, region, texts)


async def _ask(http: httpx.AsyncClient, url: str) -> str | None:
    try:
        answer = await http.get(url)
    except httpx.HTTPError:
        return None
    return answer.text if answer.status_code == 200 else None


def merge(region: str, texts: Mapping[str, str | None]) -> list[Metric]:
    """Put the metrics of parts together: those of one name are one, and each sample names its region and its part.

    Args:
        region: whose parts they are.
        texts: what each part says, in the text format of Prometheus; None for one that does not answer.
    """
    answers = GaugeMetricFamily(
        "fivenines_part_answers", "Whether a part tells its metrics.", labels=("region", "part")
    )
    merged: dict[str, Metric] = {answers.name: answers}
    for part, text in texts.items():
        families = _read(text)
        answers.add_metric((region, part), families is not None)
        for family in families or ():
            kept = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type, family.unit))
            for sample in family.samples:
                labels = {**sample.labels, "region": region, "part": part}
                kept.samples.append(sample._replace(labels=labels))
    return list(merged.values())


def _read(text: str | None) -> Sequence[Metric] | None:
    try:
        return None if text is None else list(text_string_to_metric_families(text))
    except ValueError:  # it is no text of metrics
        return None


class _Told(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


def _tell(region: str, texts: Mapping[str, str | None]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Told(merge(region, texts)))
    return generate_latest(registry)
