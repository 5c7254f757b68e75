"""Metrics in Prometheus' text format: what is served, and whether it is the champion."""

from pipelines.service.metrics import Metrics


def test_what_is_served_and_whether_it_is_the_champion():
    metrics = Metrics()
    metrics.serving({"index": "i@1", "model": "models:/m/1"})
    metrics.following("models:/m/2", "models:/m/1")
    lines = metrics.text().decode().splitlines()
    assert 'shan_serving{index="i@1",model="models:/m/1"} 1.0' in lines
    assert "shan_champion_served 0.0" in lines
    metrics.serving({"index": "j@1", "model": "models:/m/2"})
    metrics.following("models:/m/2", "models:/m/2")
    lines = metrics.text().decode().splitlines()
    assert [line for line in lines if line.startswith("shan_serving{")] == [
        'shan_serving{index="j@1",model="models:/m/2"} 1.0'
    ]
    assert "shan_champion_served 1.0" in lines


def test_a_service_without_a_champion_serves_what_it_should():
    metrics = Metrics()
    metrics.following("", "a checkpoint")
    metrics.partial()
    metrics.problem("TimeoutError")
    lines = metrics.text().decode().splitlines()
    assert "shan_champion_served 1.0" in lines
    assert "shan_partial_results_total 1.0" in lines
    assert 'shan_watch_errors_total{error="TimeoutError"} 1.0' in lines
