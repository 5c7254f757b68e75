"""Metrics of a router in Prometheus' text format; infra/metrics.py declares them.

The service has one router, so that its own registry has every request, with exact sums and without the delay of Ray's
agents.
"""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from infra import metrics as declared

_CLASSES = {"counter": Counter, "gauge": Gauge}


class Metrics:
    """The metrics of one process."""

    def __init__(self, deadline_s: float) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._made(declared.SERVICE_REQUESTS)
        self._seconds = self._made(declared.REQUEST_SECONDS)
        self._in_progress = self._made(declared.REQUESTS_IN_PROGRESS)
        self._queries = self._made(declared.QUERIES)
        self._candidates = self._made(declared.CANDIDATES)
        self._stages = self._made(declared.STAGE_SECONDS)
        self._partial = self._made(declared.PARTIAL_RESULTS)
        self._problems = self._made(declared.WATCH_ERRORS)
        self._serving = self._made(declared.SERVING)
        self._champion = self._made(declared.CHAMPION_SERVED)
        self._champion.set(1)
        self._made(declared.DEADLINE_SECONDS).set(deadline_s)

    def started(self) -> None:
        """Counts a request as in progress."""
        self._in_progress.inc()

    def finished(self, path: str, status: int, seconds: float) -> None:
        """Records a request that has ended."""
        self._in_progress.dec()
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def searched(self, gallery: str, candidates: int, is_partial: bool, stages: Mapping[str, float]) -> None:
        """Records the results of a search, and the seconds of its stages."""
        self._queries.labels(gallery).inc()
        self._candidates.inc(candidates)
        if is_partial:
            self._partial.inc()
        for stage, seconds in stages.items():
            self._stages.labels(stage).observe(seconds)

    def problem(self, error: str) -> None:
        """Counts a failed check."""
        self._problems.labels(error).inc()

    def serving(self, about: dict[str, Any]) -> None:
        """Sets the index that is served."""
        self._serving.clear()
        self._serving.labels(about["index"], about["model"]).set(1)

    def following(self, champion: str, served: str) -> None:
        """Sets whether the champion is served; 1 if the service follows none."""
        self._champion.set(float(champion in ("", served)))

    def text(self) -> bytes:
        """Returns all metrics as text."""
        return generate_latest(self._registry)

    def _made(self, metric: declared.Metric) -> Any:
        if metric.kind == "histogram":
            return Histogram(metric.name, metric.meaning, metric.labels, buckets=metric.edges, registry=self._registry)
        return _CLASSES[metric.kind](metric.name, metric.meaning, metric.labels, registry=self._registry)
