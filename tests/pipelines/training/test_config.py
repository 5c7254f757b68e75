"""Configuration of a training."""

import pytest

from pipelines.training.config import TrainConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "train.epochs is 0; it must be at least 1"),
        ({"checkpoint_every_n_steps": 0}, "train.checkpoint_every_n_steps is 0; it must be at least 1"),
        ({"profile_steps": -1}, "train.profile_steps is -1; it must not be negative"),
        ({"early_stopping_patience": -1}, "train.early_stopping_patience is -1; it must not be negative"),
        (
            {"epochs": 4, "hard_negative_warmup_epochs": 5},
            "train.hard_negative_warmup_epochs is 5; it must not exceed train.epochs, 4",
        ),
        ({"learning_rate": 0.0}, "train.learning_rate is 0.0; it must be positive"),
        ({"learning_rate": 3e38}, r"train.learning_rate is 3e\+38; it must be positive and at most 1e\+30"),
        ({"margin": 1e39}, r"train.margin is 1e\+39; it must be positive and at most 1e\+30"),
        ({"max_grad_norm": float("inf")}, "train.max_grad_norm is inf; it must be positive"),
        ({"text_encoder_learning_rate": -1e-5}, "train.text_encoder_learning_rate is -1e-05; it must be positive"),
        ({"text_encoder_layer_decay": 0.0}, "train.text_encoder_layer_decay is 0.0; it must be above 0 and at most 1"),
        ({"text_encoder_layer_decay": 1.1}, "train.text_encoder_layer_decay is 1.1; it must be above 0 and at most 1"),
        ({"ema_decay": 1.0}, "train.ema_decay is 1.0; it must be at least 0 and below 1"),
        ({"word_dropout": -0.1}, "train.word_dropout is -0.1; it must be at least 0 and below 1"),
        ({"min_workers": 3}, "train.min_workers is 3; it must not exceed train.num_workers, 2"),
        ({"min_workers": 1, "data_mode": "stream"}, "train.min_workers is set with train.data_mode=stream"),
        ({"batch_size": 3}, "train.batch_size is 3 for 2 workers; give each at least 2"),
    ],
)
def test_value_out_of_range_names_field_value_and_constraint(fields: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**fields)  # type: ignore[arg-type]


def test_number_of_workers_affects_the_result_of_a_stream_only():
    assert "num_workers" not in TrainConfig().result_fields()
    assert TrainConfig(data_mode="stream").result_fields()["num_workers"] == 2
    assert "output" not in TrainConfig().result_fields()
