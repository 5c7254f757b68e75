"""The declared metrics: names, the documented table, and counts outside Ray. Runs of jobs scrape them elsewhere."""

import re
import subprocess
import sys

import pytest
import ray

from infra.metrics import METRICS, STORE_REQUESTS
from tests.support import ROOT
from tests.support.processes import wait_until
from tests.support.scrape import Scraped

UNITS = {"photos", "bytes", "seconds", "ratio", "1", "steps", "captions", "captions/s", "checkpoints", "shards"} | {
    *("requests", "queries", "candidates", "checks", "items", "pairs"),
}


def test_names_follow_the_conventions_of_prometheus():
    assert len({metric.name for metric in METRICS}) == len(METRICS) > 40
    areas = "extraction|training|index|evaluation|store|service"
    for metric in METRICS:
        assert re.fullmatch(rf"shan_({areas})(_[a-z]+)+", metric.name), metric.name
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert bool(metric.edges) == (metric.kind == "histogram"), metric.name
        assert metric.unit in UNITS, metric.unit
        for unit in ("seconds", "bytes", "ratio"):
            assert (unit in metric.name) == (metric.unit == unit), metric.name


def test_the_documented_table_is_the_declaration():
    text = (ROOT / "docs" / "how-to" / "monitor.md").read_text(encoding="utf-8")
    rows = {row[0]: row for row in (re.split(r" \| ", line[2:-2]) for line in text.splitlines() if "_" in line[:12])}
    expected = {}
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
        row = [f"`{metric.exported}`", metric.kind, metric.unit, labels, metric.meaning]
        expected[row[0]] = row
    assert rows == expected


@pytest.mark.parametrize("connected", ["", "import ray; "])
def test_outside_ray_nothing_is_imported_or_recorded(connected: str):
    """Without an initialised Ray, whether it is imported or not; counts are kept."""
    program = f"""
import sys
{connected}
import infra.metrics as declared
before = set(sys.modules)
for metric in declared.METRICS:
    labels = dict.fromkeys(metric.labels, "x")
    {{"counter": metric.add, "gauge": metric.set, "histogram": metric.observe}}[metric.kind](1, **labels)
assert set(sys.modules) == before and not declared._recording
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.usefixtures("ray_session")
def test_counts_before_the_connection_are_exported():
    """A job reads what is finished from its store before it joins a cluster, and may count nothing afterwards."""
    program = f"""
from infra.cluster import ClusterConfig, connect
from infra.metrics import STORE_REQUESTS
STORE_REQUESTS.add(2, operation="Early")
STORE_REQUESTS.add(operation="Early")
connect(ClusterConfig(address={ray.get_runtime_context().gcs_address!r}))
"""
    with Scraped() as scraped:
        before = scraped.total(STORE_REQUESTS.exported, operation="Early")
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
        wait_until(lambda: scraped.total(STORE_REQUESTS.exported, operation="Early") > before, 30)
        assert scraped.total(STORE_REQUESTS.exported, operation="Early") == before + 3
