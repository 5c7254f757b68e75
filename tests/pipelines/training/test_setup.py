"""The sections of a training as they are logged and handed to other processes."""

from pathlib import Path

import pytest

from infra.tracking import TrackingConfig
from pipelines.training.config import TrainConfig
from pipelines.training.setup import TrainingSetup
from shan_model.config import ModelConfig


def test_logged_settings_have_no_credentials():
    setup = TrainingSetup(tracking=TrackingConfig(uri="http://user:secret@host:5000"))
    assert setup.redacted().flat()["tracking.uri"] == "http://host:5000"


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert").mkdir()
    train = TrainConfig(output="runs", word_vectors="words.txt")
    model = ModelConfig(text_encoder="hf", hf_model="bert")
    setup = TrainingSetup(model=model, train=train)
    assert setup.train.output == str(tmp_path / "runs")
    assert setup.train.word_vectors == str(tmp_path / "words.txt")
    assert setup.model.hf_model == str(tmp_path / "bert")


def test_uris_and_names_stay():
    train = TrainConfig(output="s3://bucket/runs")
    model = ModelConfig(text_encoder="hf", hf_model="bert-base-uncased")
    setup = TrainingSetup(model=model, train=train)
    assert (setup.train.output, setup.model.hf_model) == ("s3://bucket/runs", "bert-base-uncased")
