"""Dashboards, alerts and the configuration of Prometheus, against the metrics that exist."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.metrics import METRICS
from pipelines.service.config import ServiceConfig
from tests.support import ROOT
from tests.test_docs import anchors

DEPLOY = ROOT / "infra" / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
EVERYWHERE = {"instance", "job"}
"""Labels that Prometheus adds."""
OF_RAY = {
    "ray_node_cpu_utilization": set(),
    "ray_node_gpus_utilization": {"GpuIndex"},
    "ray_node_disk_free": set(),
    "ray_node_network_receive_speed": set(),
    "ray_node_network_send_speed": set(),
}
"""Metrics of Ray that dashboards show (ray/dashboard/modules/reporter/reporter_agent.py), with their own labels."""
NAME = re.compile(r"\b(?:ray|shan)_\w+")
NEEDS_PROMTOOL = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed (Debian's package prometheus)"
)
PER_SECOND = r" \* 1000 / \$__rate_interval_ms"
COUNTED = re.compile(
    r"\((?P<series>\w+(?:\{[^}]*\})?)\s+unless max_over_time\((?P=series)\[1h\] offset (?P<range>[\w$]+)\)\)"
    rf"(?:{PER_SECOND} or rate|\s+or increase)\((?P=series)\[(?P=range)\]\)"
)
"""The rate or increase of a counter with its first value, which Prometheus leaves out: series start with an event."""
RATE = re.compile(r"\b(?:rate|irate|increase|delta)\(")


def exported() -> dict[str, set[str]]:
    """Returns the labels of every metric by its name in queries; a histogram is queried by its buckets."""
    found = {name: labels | EVERYWHERE for name, labels in OF_RAY.items()}
    for metric in METRICS:
        labels = {*metric.labels, *EVERYWHERE}
        if metric.kind == "histogram":
            found[f"{metric.exported}_bucket"] = labels | {"le"}
            found |= {f"{metric.exported}_{part}": labels for part in ("sum", "count")}
        else:
            found[metric.exported] = labels
    return found


def faults_of(query: str, shown: str = "") -> list[str]:
    """Returns what is wrong with a query, and with the labels of a text for its series (`{{label}}`)."""
    known = exported()
    names = set(NAME.findall(query))
    faults = [f"no metric is named {name}" for name in names - known.keys()]
    if not names:
        faults.append(f"{query} names no metric")
    labels = {label for group in re.findall(r"\bby \(([^)]*)\)", query) for label in re.split(r",\s*", group)}
    labels |= {label for inside in re.findall(r"\w\{([^}]*)\}", query) for label in re.findall(r"(\w+)\s*[=!]", inside)}
    labels |= set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", shown))
    allowed = set[str]().union(*(known.get(name, set()) for name in names))
    return faults + [f"{sorted(names)} has no label {label}" for label in labels - allowed]


def queries_of_dashboards() -> Iterator[tuple[str, str]]:
    """Yields the title of every panel with each of its queries."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


def in_prometheus(query: str) -> str:
    """Returns a query with the variables that Grafana replaces."""
    return query.replace("$__rate_interval_ms", "60000").replace("$__rate_interval", "1m")


def alerts() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from group["rules"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_queries_of_dashboards_name_metrics_that_exist(path: Path):
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"] == f"shan-{path.stem}"
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels) > 5
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"  # so that any Grafana can import it
        for target in panel["targets"]:
            assert faults_of(target["expr"], target["legendFormat"]) == []


def test_dashboards_show_every_metric_but_those_of_others():
    queries = " ".join(query for _, query in queries_of_dashboards())
    shown = {re.sub("_bucket$", "", name) for name in NAME.findall(queries)}
    assert {metric.exported for metric in METRICS} - shown == {
        *("ray_shan_extraction_photos_planned_total", "ray_shan_index_photos_planned_total")
    }


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_alerts_name_metrics_and_sections_that_exist(alert: dict[str, Any]):
    assert faults_of(alert["expr"], alert["annotations"]["summary"]) == []
    assert alert["labels"]["severity"] in ("warning", "critical")
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert anchor in anchors(ROOT / page)


def test_first_events_count_in_dashboards_and_alerts():
    """`rate` and `increase` are 0 for a counter that appears with its only event, such as a rejected photo."""
    queries = [*queries_of_dashboards(), *((alert["alert"], alert["expr"]) for alert in alerts())]
    assert sum(len(COUNTED.findall(query)) for _, query in queries) > 30
    assert [title for title, query in queries if RATE.search(COUNTED.sub("counted", query))] == []
    assert RATE.search(COUNTED.sub("counted", "sum(rate(ray_shan_store_errors_total[$__rate_interval]))"))


@NEEDS_PROMTOOL
def test_promtool_parses_the_queries_of_dashboards(tmp_path: Path):
    rules = [
        {"record": f"query_{number}", "expr": in_prometheus(query)}
        for number, (_, query) in enumerate(queries_of_dashboards())
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    subprocess.run(["promtool", "check", "rules", "--lint=none", tmp_path / "rules.yml"], check=True)


@NEEDS_PROMTOOL
def test_panels_show_an_event_with_which_its_counter_appears(tmp_path: Path):
    """A counter of value 1 from 5 minutes on is an event then, and none 2 minutes later."""
    plain = re.compile(rf"sum(?: by \((?P<label>\w+)\) )?\({COUNTED.pattern}\)")
    tests = []
    for _, query in queries_of_dashboards():
        if (found := plain.fullmatch(query)) is None:
            continue
        labels = f'{{{found["label"]}="x"}}' if found["label"] else "{}"
        samples = [("5m30s", 1000 / 60000), ("7m", 0)]
        expected = [
            {"expr": in_prometheus(query), "eval_time": at, "exp_samples": [{"labels": labels, "value": value}]}
            for at, value in samples
        ]
        series = [{"series": f"{found['series']}{labels}", "values": "_x20 1x20"}]
        tests.append({"interval": "15s", "input_series": series, "promql_expr_test": expected})
    assert len(tests) > 20
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"evaluation_interval": "15s", "tests": tests}))
    subprocess.run(["promtool", "test", "rules", tmp_path / "tests.yml"], check=True)


@NEEDS_PROMTOOL
@pytest.mark.parametrize(
    "arguments", [("check", "rules", str(ALERTS)), ("test", "rules", "tests/infra/alerts_test.yml")]
)
def test_promtool_accepts_the_alerts(arguments: tuple[str, ...]):
    subprocess.run(["promtool", *arguments], cwd=ROOT, check=True)


def test_there_is_an_alert_for_each_trouble():
    assert {alert["alert"] for alert in alerts()} == {
        *("ManyPhotosRejected", "ExtractionWithoutProgress", "TrainingWithoutProgress", "IndexWithoutProgress"),
        *("CheckpointUploadFails", "TrainingWaitsForData", "SearchesBeyondDeadline", "PartialResults"),
        "ChampionWithoutIndex",
    }


def test_documented_alerts_are_those_of_the_file():
    text = (ROOT / "docs" / "how-to" / "monitor.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", text.split("\n## Alerts\n")[1].split("\n## ")[0], re.MULTILINE)
    assert rows == [(alert["alert"], alert["labels"]["severity"]) for alert in alerts()]


def test_compose_provisions_prometheus_and_grafana():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name in ("prometheus", "grafana"):
        mounted = [volume.split(":") for volume in services[name]["volumes"] if volume.startswith("./")]
        assert mounted
        assert all((DEPLOY / source).is_dir() for source, *_ in mounted)
    (scraped, search) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    (nodes,) = scraped["dns_sd_configs"]
    assert set(nodes["names"]) <= services.keys()
    for node in nodes["names"]:
        assert f"--metrics-export-port={nodes['port']}" in services[node]["command"]
    (secret,) = services["prometheus"]["secrets"]
    (target,) = (target for config in search["static_configs"] for target in config["targets"])
    node, _, port = target.partition(":")
    assert f"127.0.0.1:{port}:{port}" in services[node]["ports"]
    assert int(port) == ServiceConfig().port
    assert search["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    providers = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/dashboards.yaml").read_text())["providers"]
    targets = {volume.split(":")[1] for volume in services["grafana"]["volumes"]}
    assert {provider["options"]["path"] for provider in providers} <= targets


def test_wrong_queries_would_be_found():
    assert faults_of("rate(ray_shan_store_request_total[5m])") == ["no metric is named ray_shan_store_request_total"]
    assert faults_of("sum by (kind) (ray_shan_store_retries_total)") == [
        "['ray_shan_store_retries_total'] has no label kind"
    ]
    assert faults_of('shan_service_requests_total{code="504"}')
    assert faults_of("ray_shan_training_loss", "{{model}}")
    assert faults_of("up") == ["up names no metric"]
