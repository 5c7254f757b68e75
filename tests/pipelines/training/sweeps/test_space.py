"""Sweeps' spaces as users write them."""

from dataclasses import asdict

import pytest

from infra.errors import UserError
from pipelines.training.setup import TrainingSetup
from pipelines.training.sweeps.space import draws, parse_space, with_fields


def test_every_draw_gives_values_of_its_range():
    space = parse_space(
        [
            "train.learning_rate=loguniform(1e-4, 1e-2)", "train.margin=uniform(0.1, 0.3)",
            "model.gate=choice(vector, scalar)", "train.hard_negative_warmup_epochs=randint(0, 3)",
            "train.seed=grid(0, 1, 2)",
        ]
    )  # fmt: skip
    assert space["train.seed"] == {"grid_search": [0, 1, 2]}
    drawn = [{field: domain.sample() for field, domain in space.items() if field != "train.seed"} for _ in range(200)]
    assert all(1e-4 <= d["train.learning_rate"] <= 1e-2 for d in drawn)
    assert sum(d["train.learning_rate"] < 1e-3 for d in drawn) > 60  # half in truth; a third of it if it were uniform
    assert {d["model.gate"] for d in drawn} == {"vector", "scalar"}
    assert {d["train.hard_negative_warmup_epochs"] for d in drawn} == {0, 1, 2}
    config = with_fields(TrainingSetup(), drawn[0])
    assert config.flat() == TrainingSetup().flat() | drawn[0]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("train.learning_rate", "write section.field=draw"),
        ("train.learning_rate=normal(0, 1)", "draw being one of choice, grid"),
        ("train.lerning_rate=choice(1)", "there is no field train.lerning_rate"),
        ("extract.detector=choice(a)", "there is no field extract.detector"),
        ("model.gate=choice(vector, tensor)", "model.gate is 'tensor'; choose one of"),
        ("train.margin=uniform(0.3, 0.1)", "uniform takes a lower and an upper end"),
        ("train.margin=loguniform(0, 0.1)", "loguniform takes positive ends"),
        ("train.batch_size=choice(32.5)", "train.batch_size is a whole number"),
        ("train.early_stopping_patience=choice(many)", "'many' is of another kind"),
        ("train.epochs=choice(2, 3)", "set --train.epochs for all"),
        ("train.seed=choice()", "no values between the brackets"),
    ],
)
def test_what_cannot_be_swept_is_said(entry: str, message: str):
    with pytest.raises(UserError, match=message.replace("(", r"\(")) as caught:
        parse_space([entry])
    assert "\n" not in str(caught.value)


def test_a_field_is_named_once_and_a_space_is_not_empty():
    with pytest.raises(UserError, match="twice"):
        parse_space(["train.seed=choice(1)", "train.seed=choice(2)"])
    with pytest.raises(UserError, match="empty"):
        parse_space([])


def test_draws_that_are_alike_are_one():
    """Two trainings of the same settings would write to one place."""
    space = parse_space(["model.gate=choice(vector, scalar)", "train.seed=grid(0, 1)"])
    found = draws(space, 8, seed=0)
    assert sorted((each["model.gate"], each["train.seed"]) for each in found) == [
        ("scalar", 0), ("scalar", 1), ("vector", 0), ("vector", 1),
    ]  # fmt: skip
    rates = draws(parse_space(["train.learning_rate=loguniform(1e-4, 1e-2)"]), 5, seed=3)
    assert len({each["train.learning_rate"] for each in rates}) == 5
    assert rates == draws(parse_space(["train.learning_rate=loguniform(1e-4, 1e-2)"]), 5, seed=3)
    assert all(1e-4 <= each["train.learning_rate"] <= 1e-2 for each in rates)
    (few,) = draws(parse_space(["train.hard_negative_warmup_epochs=randint(1, 2)"]), 3, seed=0)
    assert asdict(with_fields(TrainingSetup(), few).train)["hard_negative_warmup_epochs"] == 1
    with pytest.raises(UserError, match=r"train\.num_workers does not change what is trained"):
        parse_space(["train.num_workers=grid(1, 2)"])
