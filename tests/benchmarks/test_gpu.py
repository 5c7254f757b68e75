"""The GPU benchmarks and parity checks at tiny sizes on a CPU, so that no error waits until a GPU is at hand."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.detectors.contract import Regions
from shan_model import compiled_gate
from tests.benchmarks import commands
from tests.benchmarks.gpu import bench, card, detectors, parity, ray_training, scoring, training
from tests.benchmarks.gpu.sizes import TINY
from tests.benchmarks.report import Failure, run, write_json
from tests.support import ROOT
from tests.support.commands import run_here

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
QUICK = [*training.benchmarks(TINY, "cpu"), *scoring.benchmarks(TINY, "cpu")]


def marked(runs: Iterable[Any], name_of: Callable[[Any], str]) -> list[Any]:
    """Returns parameters by name; those of bottom_up, a large network, are `long`."""
    return [
        pytest.param(run, id=name_of(run), marks=[pytest.mark.long] if "bottom_up" in name_of(run) else [])
        for run in runs
    ]


@pytest.mark.parametrize("benchmark", QUICK, ids=lambda benchmark: benchmark.name)
def test_training_and_scoring_run(benchmark):
    results = list(run([benchmark]))
    assert results
    assert not [result for result in results if isinstance(result, Failure)]


@pytest.mark.parametrize("benchmark", marked(detectors.benchmarks(TINY, "cpu"), lambda benchmark: benchmark.name))
def test_detectors_run(benchmark, tmp_path):
    results = list(run([benchmark]))
    assert results
    write_json(tmp_path / "rows.json", results)
    assert not [result for result in results if isinstance(result, Failure)]


@pytest.mark.parametrize("check", marked(parity.CHECKS, lambda check: check.__name__))
def test_a_device_agrees_with_itself(monkeypatch, tmp_path, check):
    # Compiling takes half a minute; tests/shan_model/test_compiled_gate.py does it.
    monkeypatch.setattr(compiled_gate, "compiled", lambda *_: lambda *tensors: compiled_gate.pool(*tensors))
    rows = list(check(TINY, "cpu"))
    assert rows
    write_json(tmp_path / "rows.json", rows)
    assert all(row.met for row in rows), rows


def regions(change: float = 0.0, missing: int = 0) -> Regions:
    """36 regions whose features are changed, or of which some lie elsewhere."""
    draw = np.random.default_rng(0)
    boxes, features = draw.random((36, 4), np.float32) * 100, draw.random((36, 8), np.float32)
    features[0, 0] = 1
    boxes[:missing] += 1
    return Regions(features * (1 + np.float32(change)), boxes, np.arange(36), np.ones(36, np.float32))


@pytest.mark.parametrize(
    ("found", "met"),
    [
        (regions(), [True, True]),
        (regions(change=5e-4, missing=1), [True, True]),
        (regions(missing=2), [False, True]),
        (regions(change=2e-3), [True, False]),
    ],
)
def test_parity_of_regions_limits_boxes_and_features(found, met):
    assert [row.met for row in parity._regions("detector", [regions()], [found])] == met


@pytest.mark.usefixtures("ray_session")
@pytest.mark.long
def test_a_training_through_ray_train_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "run_command", run_here)  # saves the start of a process and of its Ray
    rows = list(ray_training.ray_training(TINY, "cpu"))
    write_json(tmp_path / "rows.json", rows)
    assert [row.unit for row in rows] == ["captions/s", "%", "GiB"]
    assert all(row.ours >= 0 for row in rows)


def test_the_report_continues_after_a_failed_benchmark(tmp_path, monkeypatch, capsys):
    def fails(*_):
        raise torch.OutOfMemoryError("512 GiB were asked for")

    monkeypatch.setattr(bench, "FILES", (training, scoring))
    monkeypatch.setattr(training, "step", fails)
    path = tmp_path / "bench-gpu.json"
    assert bench.main(TINY, "cpu", path) == 1
    document = json.loads(path.read_text())
    assert document["device"] == "CPU"
    errors = [result["what"] for result in document["results"] if "error" in result]
    assert errors == ["training step, batch 6", "training step, batch 8", "training step, all pairs"]
    assert any(result["what"].startswith("scoring 5 x 9 pairs, bf16") for result in document["results"])
    assert "| training step, batch 6 | failed: OutOfMemoryError: 512 GiB were asked for |" in capsys.readouterr().out


@NO_GPU
@pytest.mark.parametrize("module", ["tests.gpu", "tests.benchmarks.gpu"])
def test_commands_without_gpu_exit_with_code_2(module):
    result = subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: a GPU is needed, but torch")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "bf16"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_peak_is_looked_up_by_card_name(monkeypatch, name, bf16):
    monkeypatch.setattr(card, "name_of", lambda device: name)
    assert card.peak("cuda", torch.bfloat16) == bf16
    speed, arithmetic = card.against_peak("steps", 10, "steps", 1e12, "cuda", torch.bfloat16)
    assert arithmetic.ours == 10
    if bf16 is None:
        assert speed.peer == "unknown card"
        assert speed.ratio is None
    else:
        assert speed.ratio == arithmetic.ratio == pytest.approx(10e12 / bf16)


BARE = """
import sys
MISSING = {"ray", "mlflow", "webdataset", "efficientnet_lite_pytorch", "boto3", "botocore", "jsonargparse"}
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from pathlib import Path
from tests.benchmarks.gpu import bench
from tests.benchmarks.gpu.sizes import TINY
from tests.benchmarks.report import run
SOME = {"data loading", "detector embedded", "detector bottom_up, bf16", "training through Ray Train"}
bench.run = lambda benchmarks: run(benchmark for benchmark in benchmarks if benchmark.name in SOME)
sys.exit(bench.main(TINY, "cpu", Path(sys.argv[1])))
"""


@pytest.mark.long
def test_a_bare_machine_skips_what_needs_other_packages(tmp_path):
    path = tmp_path / "bench-gpu.json"
    command = [sys.executable, "-c", BARE, str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    results = json.loads(path.read_text())["results"]
    skipped = {entry["what"]: entry["error"] for entry in results if entry.get("skipped")}
    assert skipped == {
        "detector embedded": "efficientnet_lite_pytorch is not installed",
        "training through Ray Train": "mlflow is not installed",
    }
    measured = [entry["what"] for entry in results if "error" not in entry]
    assert [what for what in measured if what.startswith("data loading")]
    assert [what for what in measured if "bottom_up bf16" in what]
