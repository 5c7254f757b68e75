"""The models of the paper's table, as small networks that learn nothing; in the long form on 1,000 test photos."""

from pathlib import Path

import pytest

from infra.tracking import TrackingConfig, connect
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.reproduction import PAPER, Reproduction, imported, reproduce
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
    (first,) = reproduce(reproduction, MODELS[:1], None)
    tables = list(reproduce(reproduction, MODELS, None))
    assert [[cells[0] for cells in table.rows] for table in tables] == [
        [*MODELS[:1]],
        [*MODELS],
        [*MODELS, "ensemble"],
    ]  # each model is in the table as soon as it is evaluated
    assert tables[0].rows == first.rows
    for _, figures, photos, captions, rsum, difference in tables[-1].rows:
        recalls = [float(number) for cell in (photos, captions) for number in cell.split(",")]
        assert sum(recalls) == pytest.approx(float(rsum), abs=0.35)
        assert (figures, difference) == ("here", "")
    loaded = {model: reproduction.train(model, None) for model in MODELS}
    assert [model.shan.config.matcher for model in loaded.values()] == [*MODELS]
    assert [model.uri for model in loaded.values()] == [f"models:/mine_precomp-{model}/1" for model in MODELS]
    assert len(list((tmp_path / "build" / "runs").iterdir())) == len(MODELS)  # each was trained once


@pytest.mark.usefixtures("ray_session")
def test_missing_gpus_are_refused_before_the_import(tmp_path: Path):
    scan_folder(tmp_path / "f30k_precomp", {"train": 32, "dev": 8, "test": 1000})
    width = "--model.region_dim=8"
    for options, setting in (
        (["--train.use_gpu=true", "--train.num_workers=1"], "train.num_workers is 1, with train.use_gpu"),
        (["--score.num_actors=1", "--score.actor_gpus=1"], "score.num_actors is 1"),
    ):
        said = run_here(tmp_path, "jobs.reproduce", "--features=f30k_precomp", width, *options, code=2)
        assert f"{setting}, which needs 1 x (1 CPU, 1 GPU), but the cluster has" in said
    assert [path.name for path in tmp_path.iterdir()] == ["f30k_precomp"]


@pytest.mark.long
@pytest.mark.cluster
@pytest.mark.usefixtures("ray_session")
def test_the_command_prints_the_figures_of_the_paper(tmp_path: Path):
    scan_folder(tmp_path / "f30k_precomp", {"train": 32, "dev": 8, "test": 1000})
    small = ["--model.region_dim=8", "--model.joint_dim=8", "--model.word_dim=8", "--train.epochs=1"]
    command = ["jobs.reproduce", "--features=f30k_precomp", "--models=shan-t2i", *small, "--train.batch_size=16"]
    printed = run_here(tmp_path, *command, "--preset=best", "--report=report.md")
    assert "f30k_precomp, f30k-1k, on test" in printed
    here, paper = [line.split(" | ") for line in printed.splitlines() if line.startswith("| shan-t2i")]
    *directions, rsum = PAPER["f30k-1k"]["shan-t2i"]
    assert paper == ["| shan-t2i", "paper", *directions, f"{rsum:.1f}", " |"]
    assert float(here[5].rstrip("| ")) == pytest.approx(float(here[4]) - rsum, abs=0.1)
    settings = [line.strip("| ").split(" | ") for line in printed.split("| preset paper |")[1].splitlines()[2:]]
    assert [field for field, *_ in settings] == [
        "train.word_vectors",
        *("model.region_dim", "model.joint_dim", "model.word_dim"),
        *("train.epochs", "train.batch_size", "train.hard_negative_warmup_epochs"),
        *("train.word_dropout", "train.min_word_count"),
    ]
    assert settings[4] == ["train.epochs", "1", "30"]
    assert printed.strip() in (tmp_path / "report.md").read_text()
