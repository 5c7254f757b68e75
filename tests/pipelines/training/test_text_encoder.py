"""The Hugging Face text encoder of a training: unusable ones are errors, and a slow hub is given up everywhere."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from infra import hub
from infra.errors import AccessDeniedError, UserError
from pipelines.features.feature_set import FeatureSet
from pipelines.training.inputs import resolve_inputs
from pipelines.training.setup import TrainingSetup
from pipelines.training.text_encoder import check_text_encoder, fetch_text_encoder
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.support.bad_stores import closed
from tests.support.tiny_bert import write_tiny_bert
from tests.support.web_server import drips, web_server


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def with_config(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "config.json").write_text(text)


@pytest.mark.parametrize(
    ("corrupt", "reason"),
    [
        (shutil.rmtree, r"cannot be loaded \(.*\); give a folder or hub name"),
        (without("config.json"), r"cannot be loaded \(.*\); give a folder or hub name"),
        (without("model.safetensors"), r"cannot be loaded \(it has no model\.safetensors\); give a folder or hub name"),
        (without("tokenizer.json"), "has a tokenizer without words; save tokenizer.json with the model"),
        (with_config('{"model_type": "own"}'), r"cannot be loaded \(.*own.*\); give a folder or hub name"),
        (
            with_config('{"model_type": "bert", "hidden_size": "x"}'),
            r"cannot be loaded \(.*hidden_size.*\); give a folder",
        ),
        (with_config('{"model_type": "t5"}'), "is a t5, not a text encoder; use one such as BERT or RoBERTa"),
    ],
    ids=["missing", "no config", "no weights", "no tokenizer", "unknown kind", "wrong type", "not an encoder"],
)
def test_an_unusable_text_encoder_is_an_error_first(
    features: FeatureSet, setup: TrainingSetup, tmp_path: Path, corrupt: Callable[[Path], object], reason: str
):
    folder = write_tiny_bert(tmp_path / "bert")
    corrupt(folder)
    model = replace(setup.model, text_encoder="hf", hf_model=str(folder))
    with pytest.raises(UserError, match=f"^model.hf_model '{folder}' {reason}") as caught:
        resolve_inputs(features, "m", replace(setup, model=model))
    assert "\n" not in str(caught.value)
    assert not Path(setup.train.output).exists()


def test_a_closed_folder_of_a_text_encoder_is_named(setup: TrainingSetup, tmp_path: Path):
    folder = write_tiny_bert(tmp_path / "bert")
    closed_setup = replace(setup, model=replace(setup.model, text_encoder="hf", hf_model=str(folder)))
    with closed(folder), pytest.raises(AccessDeniedError, match=f"^{folder}/config.json: cannot be accessed"):
        check_text_encoder(closed_setup)


def test_a_local_text_encoder_is_accepted(features: FeatureSet, setup: TrainingSetup, tmp_path: Path):
    model = replace(setup.model, text_encoder="hf", hf_model=str(write_tiny_bert(tmp_path / "bert")))
    assert resolve_inputs(features, "m", replace(setup, model=model)).setup.model == model


def test_a_fetched_encoder_is_built_without_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--someone--bert"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    write_tiny_bert(cached / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = ModelConfig(text_encoder="hf", hf_model="someone/bert", joint_dim=8)
    fetch_text_encoder(model)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with web_server(drips(b"HTTP/1.1 200 OK\r\nX-Part: ", b"a", 1.0)) as (uri, connections):
        monkeypatch.setattr(constants, "ENDPOINT", uri.removesuffix("/a.jpg"))
        assert SHAN(model, Vocabulary.build([])).text_encoder.known("a zebra") == [True, True, False, True]
    assert not connections


@pytest.mark.parametrize("fetch", [check_text_encoder, lambda setup: fetch_text_encoder(setup.model)])
def test_a_hub_that_drips_is_given_up(
    setup: TrainingSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetch: Callable[[TrainingSetup], None]
):
    monkeypatch.setattr(hub, "GRACE_S", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = replace(setup.model, text_encoder="hf", hf_model="someone/bert")
    with web_server(drips(b"HTTP/1.1 200 OK\r\nX-Part: ", b"a", 1.0)) as (uri, _):
        monkeypatch.setattr(constants, "ENDPOINT", uri.removesuffix("/a.jpg"))
        with pytest.raises(UserError, match=r"^model\.hf_model 'someone/bert' cannot be fetched \(the hub http://127"):
            fetch(replace(setup, model=model))
