"""Metrics over a window of steps."""

import pytest
import torch

from pipelines.training.metric_window import MetricWindow


def test_summary_is_the_mean_over_the_steps():
    window = MetricWindow(start=0.0)
    for loss, norm in ((1.0, 4.0), (3.0, 8.0)):
        window.losses.append(torch.tensor(loss))
        window.norms.append(torch.tensor(norm))
        window.captions += 50
    metrics = window.summary(1, {"lr": 0.01}, torch.device("cpu"))
    assert (metrics["loss"], metrics["grad_norm"], metrics["lr"], metrics["num_workers"]) == (2, 6, 0.01, 1)
    assert metrics["memory_gb"] > 0.01


def test_times_are_relative_to_the_window(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("time.perf_counter", lambda: 30.0)
    window = MetricWindow([torch.tensor(1.0)], [torch.tensor(1.0)], captions=100, waited_s=2.0, start=20.0)
    metrics = window.summary(1, {"lr": 0.01}, torch.device("cpu"))
    assert metrics["captions_per_s"] == pytest.approx(10)
    assert metrics["data_wait_fraction"] == pytest.approx(0.2)
