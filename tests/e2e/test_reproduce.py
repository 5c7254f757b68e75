"""The models of the paper's table, as small networks that learn nothing; in the long form on 1,000 test photos."""

from pathlib import Path

import pytest

from infra.tracking import TrackingConfig, connect
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.reproduction import PAPER_RSUM, Reproduction, imported, reproduce, row
from pipelines.training.config import TrainConfig
from pipelines.training.setup import TrainingSetup
from shan_model.config import ModelConfig
from tests.support.commands import run_here
from tests.support.precomputed import scan_folder

MODELS = ("scan-t2i", "scan-i2t")


@pytest.mark.long  # two trainings
@pytest.mark.usefixtures("ray_session")
def test_models_are_trained_once_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    folder = scan_folder(tmp_path / "mine_precomp", {"train": 32, "dev": 8, "test": 20})
    setup = TrainingSetup(ModelConfig(region_dim=8, joint_dim=8, word_dim=8), TrainConfig(epochs=1, batch_size=16))
    features, tracking = imported(str(folder), "features"), connect(TrackingConfig())
    reproduction = Reproduction(features, setup, tracking, ScoreConfig(), "cpu")
    table = reproduce(reproduction, MODELS, None)
    assert [cells[0] for cells in table.rows] == [*MODELS, "ensemble"]
    for _, photos, captions, rsum, *paper in table.rows:
        recalls = [float(number) for cell in (photos, captions) for number in cell.split(",")]
        assert sum(recalls) == pytest.approx(float(rsum), abs=0.35)
        assert paper == ["", ""]
    loaded = {model: reproduction.train(model) for model in MODELS}
    assert [model.shan.config.matcher for model in loaded.values()] == [*MODELS]
    *_, ensemble = reproduction.evaluate(loaded, None)
    assert row(ensemble, {"ensemble": 600.0})[3:] == [
        table.rows[-1][3],
        "600.0",
        f"{ensemble.metrics['rsum'] - 600:+.1f}",
    ]
    assert len(list((tmp_path / "build" / "runs").iterdir())) == len(MODELS)


@pytest.mark.long
@pytest.mark.cluster
@pytest.mark.usefixtures("ray_session")
def test_the_command_prints_the_figures_of_the_paper(tmp_path: Path):
    scan_folder(tmp_path / "f30k_precomp", {"train": 32, "dev": 8, "test": 1000})
    small = ["--model.region_dim=8", "--model.joint_dim=8", "--model.word_dim=8", "--train.epochs=1"]
    command = ["jobs.reproduce", "--features=f30k_precomp", "--models=shan-t2i", *small, "--train.batch_size=16"]
    table = run_here(tmp_path, *command)
    assert "f30k_precomp, f30k-1k, on test" in table
    (cells,) = [line.split("|")[1:-1] for line in table.splitlines() if "shan-t2i" in line]
    rsum, paper, difference = map(float, cells[3:])
    assert paper == PAPER_RSUM["f30k-1k"]["shan-t2i"]
    assert difference == pytest.approx(rsum - paper, abs=0.1)
