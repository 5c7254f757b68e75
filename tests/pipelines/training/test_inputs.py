"""Inputs of a training: resolved without writing, and invalid ones refused before anything is written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.errors import UserError
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.training.config import TrainConfig
from pipelines.training.inputs import TrainingInputs, require_dataset_of_model, resolve_inputs
from pipelines.training.setup import TrainingSetup
from shan_model.config import ModelConfig
from tests.support.feature_sets import FEATURE_DIM


def test_inputs_are_resolved_without_writing(inputs: TrainingInputs):
    assert not inputs.directory.is_claimed()
    assert not Path(inputs.directory.root).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "--name 'a/b' is not a valid model name"),
        ({"name": ""}, "--name '' is not a valid model name"),
        ({"model": ModelConfig(region_dim=9)}, "has features of width 8, but model.region_dim is 9"),
        ({"train": TrainConfig(batch_size=400)}, "train.batch_size is 400"),
        (
            {"train": TrainConfig(batch_size=4, word_vectors="none.txt")},
            "train.word_vectors '.*none.txt' cannot be read",
        ),
        (
            {"model": ModelConfig(region_dim=FEATURE_DIM, fixed_word_dim=3)},
            "model.fixed_word_dim is 3, but train.word_vectors, whose width it is, is not set; omit it",
        ),
        (
            {
                "train": TrainConfig(batch_size=4, word_vectors=__file__),
                "model": ModelConfig(region_dim=FEATURE_DIM, text_encoder="hf", hf_model="bert"),
            },
            f"train.word_vectors is {__file__}, but has no effect with model.text_encoder=hf; omit it",
        ),
    ],
)
def test_invalid_input_is_an_error_before_anything_is_written(
    features: FeatureSet, setup: TrainingSetup, change: dict[str, Any], message: str
):
    name = change.pop("name", "m")
    if "train" in change:
        change["train"] = replace(change["train"], output=setup.train.output)
    with pytest.raises(UserError, match=message):
        resolve_inputs(features, name, replace(setup, **change))
    assert not Path(setup.train.output).exists()


@pytest.mark.parametrize("name", ["m", "shan-写真", "M_1.2"])
def test_names_of_models_have_characters_of_any_script(features: FeatureSet, setup: TrainingSetup, name: str):
    assert resolve_inputs(features, name, setup).directory.name.startswith(f"{name}-")


def test_a_registered_model_of_another_data_set_is_refused(tracking: Tracking):
    client = tracking.client()
    require_dataset_of_model(tracking, "m", "tiny")
    client.create_registered_model("m")
    require_dataset_of_model(tracking, "m", "tiny")
    client.create_model_version("m", "file:///x", tags={"dataset": "tiny"})
    require_dataset_of_model(tracking, "m", "tiny")
    with pytest.raises(
        UserError, match="the registered model 'm' belongs to another data set, tiny; give the model of"
    ):
        require_dataset_of_model(tracking, "m", "tiny-2")


def test_options_without_effect_are_warned_of(
    features: FeatureSet, setup: TrainingSetup, capsys: pytest.CaptureFixture[str]
):
    resolve_inputs(features, "m", setup)
    assert capsys.readouterr().err == ""
    train = replace(setup.train, lr_schedule="cosine", lr_decay_epoch=3)
    resolve_inputs(features, "m", replace(setup, train=train))
    assert capsys.readouterr().err == (
        "warning: train.lr_decay_epoch is 3, but has no effect with train.lr_schedule=cosine\n"
    )


def test_another_width_than_that_of_the_word_vectors_is_an_error(
    features: FeatureSet, setup: TrainingSetup, tmp_path: Path
):
    (tmp_path / "vectors.txt").write_text("a 1 2 3\n")
    train = replace(setup.train, word_vectors=str(tmp_path / "vectors.txt"))
    for width in (0, 3):
        given = replace(setup, train=train, model=replace(setup.model, fixed_word_dim=width))
        assert resolve_inputs(features, "m", given).setup.model.fixed_word_dim == 3
    with pytest.raises(UserError, match=r"^model\.fixed_word_dim is 2, but .*/vectors\.txt' has vectors of width 3"):
        resolve_inputs(features, "m", replace(given, model=replace(setup.model, fixed_word_dim=2)))
