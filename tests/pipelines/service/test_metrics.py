"""Metrics in Prometheus' text format: what is served, and whether it is the champion."""

from infra.metrics import METRICS
from pipelines.service.metrics import Metrics


def test_what_is_served_and_whether_it_is_the_champion():
    metrics = Metrics(5)
    metrics.serving({"index": "i@1", "model": "models:/m/1"})
    metrics.following("models:/m/2", "models:/m/1")
    lines = metrics.text().decode().splitlines()
    assert 'shan_service_serving{index="i@1",model="models:/m/1"} 1.0' in lines
    assert "shan_service_champion_served 0.0" in lines
    metrics.serving({"index": "j@1", "model": "models:/m/2"})
    metrics.following("models:/m/2", "models:/m/2")
    lines = metrics.text().decode().splitlines()
    assert [line for line in lines if line.startswith("shan_service_serving{")] == [
        'shan_service_serving{index="j@1",model="models:/m/2"} 1.0'
    ]
    assert "shan_service_champion_served 1.0" in lines


def test_a_service_without_a_champion_serves_what_it_should():
    metrics = Metrics(5)
    metrics.following("", "a checkpoint")
    metrics.searched("photos", 100, True, {"encode": 0.03, "candidates": 0.2})
    metrics.problem("TimeoutError")
    lines = metrics.text().decode().splitlines()
    assert "shan_service_champion_served 1.0" in lines
    assert "shan_service_partial_results_total 1.0" in lines
    assert 'shan_service_watch_errors_total{error="TimeoutError"} 1.0' in lines
    assert 'shan_service_queries_total{gallery="photos"} 1.0' in lines
    assert "shan_service_candidates_total 100.0" in lines
    assert 'shan_service_stage_seconds_bucket{le="0.02",stage="encode"} 0.0' in lines
    assert 'shan_service_stage_seconds_bucket{le="0.05",stage="encode"} 1.0' in lines
    assert "shan_service_deadline_seconds 5.0" in lines


def test_metrics_of_the_router_are_those_declared():
    families = {line.split()[2] for line in Metrics(5).text().decode().splitlines() if line.startswith("# TYPE")}
    declared = {metric.name for metric in METRICS if metric.name.startswith("shan_service_")}
    assert {name for name in families if not name.endswith("_created")} == declared
