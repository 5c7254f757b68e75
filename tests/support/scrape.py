"""The metrics that the agents of a Ray session export, scraped as Prometheus does."""

import secrets
import threading
from collections.abc import Collection, Mapping

import ray
import requests
from prometheus_client.parser import text_string_to_metric_families

from infra.metrics import METRICS, PLAN_PHOTOS
from tests.support.processes import wait_until

EVERY_S = 1.0
"""Seconds between scrapes; processes send their metrics every three."""


class Scraped:
    """A context that scrapes the nodes again and again, and keeps the last value of every series."""

    def __init__(self) -> None:
        self._values: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
        self._scrapes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._scrape_again, daemon=True)

    def __enter__(self) -> "Scraped":
        self._scrape()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(60)

    def total(self, name: str, **labels: str) -> float:
        """Returns the sum of the series of a metric that have these labels, whatever else they have."""
        return sum(self._series(name, labels))

    def count(self, name: str, **labels: str) -> int:
        """Returns the number of these series."""
        return len(self._series(name, labels))

    def _series(self, name: str, labels: Mapping[str, str]) -> list[float]:
        series = dict(self._values.get(name, {}))
        return [value for key, value in series.items() if labels.items() <= dict(key).items()]

    def settle(self) -> None:
        """Waits until what this process has recorded so far is scraped.

        A process sends all its metrics at once, but the agent may be scraped while it takes them, so that two complete
        scrapes must follow that of the marker.
        """
        marker = secrets.token_hex(4)
        PLAN_PHOTOS.set(1, feature_set=marker)
        wait_until(lambda: self.total(PLAN_PHOTOS.exported, feature_set=marker) == 1, 60)
        PLAN_PHOTOS.remove(feature_set=marker)
        enough = self._scrapes + 2
        wait_until(lambda: self._scrapes >= enough, 60)

    def require(self, prefix: str, absent: Collection[str] = ()) -> None:
        """Waits until every metric whose name starts so is scraped, except `absent` ones.

        Raises AssertionError if one is missing after half a minute.
        """
        wanted = {metric for metric in METRICS if metric.name.startswith(prefix) and metric.name not in absent}
        assert wanted
        names = {metric.exported + ("_count" if metric.kind == "histogram" else "") for metric in wanted}
        wait_until(lambda: names <= self._values.keys(), 30)

    def _scrape_again(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._scrape()

    def _scrape(self) -> None:
        for node in filter(lambda node: node["Alive"], ray.nodes()):
            url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
            lines = requests.get(url, timeout=20).text.splitlines()
            own = "\n".join(line for line in lines if "shan_" in line)  # of thousands of Ray's
            for family in text_string_to_metric_families(own):
                for sample in family.samples:
                    self._values.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        self._scrapes += 1
