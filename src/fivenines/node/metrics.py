"""Metrics for Prometheus, by its conventions: base units, counters that end in `_total`.

The write path only adds to plain numbers; text is made of them when somebody asks.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Literal

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fivenines.journal import Frame
from fivenines.ledger import Applied, Batch, Outcome
from fivenines.node.node import Node

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_COMMANDS = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384)


class _Histogram:
    """Counts by bucket, and the sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return the cumulative counts that Prometheus wants."""
        rows: list[tuple[str, float]] = []
        seen = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            seen += count
            rows.append((bound, seen))
        return rows


class Metrics(Collector):
    """The metrics of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._requests: Counter[tuple[str, int]] = Counter()
        self._durations: defaultdict[str, _Histogram] = defaultdict(lambda: _Histogram(_SECONDS))
        self._outcomes: Counter[int] = Counter()
        self._frames = _Histogram(_COMMANDS)
        self._expired = 0
        self._failed_reads: Counter[str] = Counter(damaged=0, disk=0)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        node.replica.listen(self._on_applied)

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count one request, which took so long from its head to its answer."""
        self._requests[route, status] += 1
        self._durations[route].observe(seconds)

    def count_failed_read(self, reason: Literal["damaged", "disk"]) -> None:
        """Count a request that the disk could not answer: what it has is damaged, or cannot be read now."""
        self._failed_reads[reason] += 1

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def _on_applied(self, _frame: Frame, batch: Batch, applied: Applied) -> None:
        self._outcomes.update(applied.outcomes)
        self._frames.observe(len(batch.commands))
        self._expired += len(applied.expired)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families; called by the registry."""
        node, state, statistics = self._node, self._node.state, self._node.statistics
        requests = CounterMetricFamily(
            "fivenines_http_requests", "Answers by route and status.", labels=["route", "status"]
        )
        for (route, status), count in sorted(self._requests.items()):
            requests.add_metric([route, str(status)], count)
        yield requests
        durations = HistogramMetricFamily(
            "fivenines_http_request_duration_seconds",
            "From the head of a request to its answer, without the time that a 503 is held back.",
            labels=["route"],
        )
        for route, histogram in sorted(self._durations.items()):
            durations.add_metric([route], histogram.buckets(), histogram.total)
        yield durations
        outcomes = CounterMetricFamily("fivenines_ledger_outcomes", "Commands by their outcome.", labels=["outcome"])
        for outcome in Outcome:
            outcomes.add_metric([outcome.name], self._outcomes[int(outcome)])
        yield outcomes
        frames = HistogramMetricFamily("fivenines_journal_frame_commands", "Commands in a frame.")
        frames.add_metric([], self._frames.buckets(), self._frames.total)
        yield frames
        failed_reads = CounterMetricFamily(
            "fivenines_reads_failed",
            "Requests that the disk could not answer: damaged, or not readable then.",
            labels=["reason"],
        )
        for reason, count in sorted(self._failed_reads.items()):
            failed_reads.add_metric([reason], count)
        yield failed_reads
        for name, text, value in (
            ("fivenines_journal_applied_bytes", "Bytes of the frames that were applied.", statistics.journal_bytes),
            ("fivenines_ledger_holds_expired", "Holds that expired.", self._expired),
            ("fivenines_snapshots", "Snapshots written.", statistics.snapshots),
            ("fivenines_snapshots_failed", "Snapshots that could not be written.", statistics.snapshots_failed),
        ):
            yield CounterMetricFamily(name, text, value=value)
        gauges: tuple[tuple[str, str, float], ...] = (
            ("fivenines_ledger_position", "The position that the state is of.", state.position),
            ("fivenines_ledger_time_seconds", "The journal's time.", state.time_us / 1_000_000),
            ("fivenines_ledger_accounts", "Accounts.", len(state.accounts)),
            ("fivenines_ledger_holds_open", "Open holds.", len(state.holds)),
            ("fivenines_ledger_decided_ids", "Ids of the retention window.", len(state.decided)),
            ("fivenines_journal_position", "The newest durable position.", node.journal.last),
            ("fivenines_journal_first_position", "The oldest position that can be read.", node.journal.first),
            ("fivenines_writer_queue_requests", "Requests that wait for a frame.", node.writer.queued_requests),
            ("fivenines_writer_queue_commands", "Commands that wait for a frame.", node.writer.queued_commands),
            ("fivenines_snapshot_position", "The position of the newest snapshot.", statistics.snapshot_position),
            ("fivenines_snapshot_duration_seconds", "How long it took to write.", statistics.snapshot_s),
            (
                "fivenines_journal_tail_bytes",
                "Payloads of the frames that a shared journal keeps.",
                node.fleet.tail_bytes if node.fleet is not None else 0,
            ),
            ("fivenines_journal_age_seconds", "Since something was heard of the journal's end.", node.journal.age_s),
            ("fivenines_ready", "1 if this node should get writes.", float(node.unready_reason is None)),
        )
        for name, text, gauge in gauges:
            yield GaugeMetricFamily(name, text, value=gauge)
