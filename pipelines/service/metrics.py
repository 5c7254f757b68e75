"""Metrics of a router in Prometheus' text format."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Upper edges of the histogram of latencies."""


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter("shan_requests", "Requests by path and status.", ["path", "status"], registry=registry)
        self._seconds = Histogram(
            "shan_request_seconds", "Seconds of a request.", ["path"], buckets=SECONDS, registry=registry
        )
        self._in_progress = Gauge("shan_requests_in_progress", "Requests in progress.", registry=registry)
        self._partial = Counter("shan_partial_results", "Searches that a share did not respond to.", registry=registry)
        self._problems = Counter("shan_watch_errors", "Failed checks of what is served.", ["error"], registry=registry)
        self._serving = Gauge("shan_serving", "1 for the index that is served.", ["index", "model"], registry=registry)
        self._champion = Gauge(
            "shan_champion_served", "1 if the champion is served, 0 if another version is.", registry=registry
        )
        self._champion.set(1)

    def started(self) -> None:
        """Counts a request as in progress."""
        self._in_progress.inc()

    def finished(self, path: str, status: int, seconds: float) -> None:
        """Records a request that has ended."""
        self._in_progress.dec()
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def partial(self) -> None:
        """Counts a partial result."""
        self._partial.inc()

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
