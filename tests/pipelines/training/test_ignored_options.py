"""Options that are set but have no effect."""

from dataclasses import replace
from typing import Any

import pytest

from pipelines.training.config import TrainConfig
from pipelines.training.ignored_options import ignored_options
from pipelines.training.setup import TrainingSetup
from pipelines.training.shard_cache import CacheConfig
from shan_model.config import ModelConfig

HF = {"text_encoder": "hf", "hf_model": "bert"}


def setup_of(train: dict[str, Any], model: dict[str, Any]) -> TrainingSetup:
    return TrainingSetup(model=ModelConfig(**model), train=TrainConfig(**train))


@pytest.mark.parametrize(
    ("train", "model", "sentence"),
    [
        ({"lr_schedule": "cosine", "lr_decay_epoch": 3}, {},
         "train.lr_decay_epoch is 3, but has no effect with train.lr_schedule=cosine"),
        ({"epochs": 4, "lr_decay_epoch": 4}, {}, "train.lr_decay_epoch is 4, but has no effect with train.epochs=4"),
        ({"epochs": 4, "early_stopping_patience": 4}, {},
         "train.early_stopping_patience is 4, but has no effect with train.epochs=4"),
        ({"min_word_count": 4}, HF, "train.min_word_count is 4, but has no effect with model.text_encoder=hf"),
        ({"freeze_text_encoder": True}, {},
         "train.freeze_text_encoder is True, but has no effect with model.text_encoder=gru"),
        ({"text_encoder_learning_rate": 1e-5}, {},
         "train.text_encoder_learning_rate is 1e-05, but has no effect with model.text_encoder=gru"),
        ({"freeze_text_encoder": True, "text_encoder_layer_decay": 0.9}, HF,
         "train.text_encoder_layer_decay is 0.9, but has no effect with train.freeze_text_encoder=true"),
        ({}, HF | {"word_dim": 8}, "model.word_dim is 8, but has no effect with model.text_encoder=hf"),
        ({}, {"matcher": "vse++", "gate": "scalar"},
         "model.gate is scalar, but has no effect with model.matcher=vse++"),
        ({}, {"levels": "l2l", "gate": "scalar"}, "model.gate is scalar, but has no effect with model.levels=l2l"),
        ({}, {"levels": "l2l+g2l", "gate_per_level": True},
         "model.gate_per_level is True, but has no effect with model.levels=l2l+g2l"),
        ({}, {"variant": "t2i", "l2l_weight": 0.5},
         "model.l2l_weight is 0.5, but has no effect with model.variant=t2i"),
        ({}, {"variant": "i2t", "g2l_weight": 0.4},
         "model.g2l_weight is 0.4, but has no effect with model.variant=i2t"),
        ({}, {"scan_pooling": "lse"}, "model.scan_pooling is lse, but has no effect with model.matcher=shan"),
        ({}, {"scan_lse_factor": 20.0}, "model.scan_lse_factor is 20.0, but has no effect with model.matcher=shan"),
        ({}, {"matcher": "scan-i2t", "scan_lse_factor": 20.0},
         "model.scan_lse_factor is 20.0, but has no effect with model.scan_pooling=mean"),
    ],
)  # fmt: skip
def test_option_without_effect_is_named(train: dict[str, Any], model: dict[str, Any], sentence: str):
    assert ignored_options(setup_of(train, model), reads_in_place=False) == [sentence]


@pytest.mark.parametrize(
    ("train", "model"),
    [
        ({}, {}),
        ({"lr_decay_epoch": 3, "min_word_count": 4, "early_stopping_patience": 2}, {"word_dim": 8, "gate": "scalar"}),
        ({"epochs": 4}, {"l2l_weight": 0.5}),
        ({"lr_schedule": "cosine"}, {"matcher": "scan-i2t", "scan_pooling": "lse", "scan_lse_factor": 20.0}),
        ({"text_encoder_learning_rate": 1e-5, "text_encoder_layer_decay": 0.9}, HF),
        ({"freeze_text_encoder": True}, HF),
    ],
)
def test_option_with_effect_is_not_named(train: dict[str, Any], model: dict[str, Any]):
    assert ignored_options(setup_of(train, model), reads_in_place=True) == []


def test_cache_has_no_effect_on_a_folder():
    setup = replace(TrainingSetup(), cache=CacheConfig("/cache", 5))
    assert ignored_options(setup, reads_in_place=False) == []
    assert [sentence.split(",")[0] for sentence in ignored_options(setup, reads_in_place=True)] == [
        "cache.folder is /cache", "cache.max_gb is 5",
    ]  # fmt: skip
