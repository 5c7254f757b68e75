"""Checkpoints: resuming from one makes the same steps as an uninterrupted training."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from infra.errors import UserError
from pipelines.training.batches import Batch
from pipelines.training.checkpoint import (
    PROGRESS,
    STATE,
    TrainingProgress,
    TrainState,
    epoch_checkpoint,
    parse_progress,
    read_progress,
    step_checkpoint,
)
from pipelines.training.config import TrainConfig
from pipelines.training.step import objective_of, take_step
from shan_model.bundle import WEIGHTS
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.support.tiny_bert import write_tiny_bert

CAPTIONS = ["a dog", "two cats sleep", "a red car", "snow"]


def fresh(config: TrainConfig, model: ModelConfig, seed: int = 0) -> TrainState:
    torch.manual_seed(seed)
    return TrainState(SHAN(model, Vocabulary.build(CAPTIONS)), config, torch.device("cpu"))


def steps(state: TrainState, config: TrainConfig, count: int) -> None:
    for _ in range(count):
        draw = np.random.default_rng(state.progress.step)
        batch = Batch(CAPTIONS, np.arange(4), draw.normal(size=(4, 3, 6)).astype(np.float16))
        take_step(state, objective_of(state.shan, config), [batch], config, steps_per_epoch=5)


@pytest.mark.parametrize("encoder", ["gru", pytest.param("hf", marks=pytest.mark.long), "hf-layers", "hf-frozen"])
@pytest.mark.parametrize("ema", [0.0, 0.7])
@pytest.mark.parametrize("before", [0, 3])
def test_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, ema: float, before: int, encoder: str):
    """A Hugging Face encoder also has dropout."""
    hf = {"text_encoder": "hf", "hf_model": str(write_tiny_bert(tmp_path / "bert"))} if encoder != "gru" else {}
    model = ModelConfig(region_dim=6, joint_dim=8, word_dim=4, **hf)
    more = {
        "hf-layers": {"text_encoder_learning_rate": 1e-4, "text_encoder_layer_decay": 0.5},
        "hf-frozen": {"freeze_text_encoder": True},
    }.get(encoder, {})
    config = TrainConfig(ema_decay=ema, hard_negative_warmup_epochs=1, learning_rate=1e-3, **more)
    uninterrupted, first, second = (fresh(config, model, seed) for seed in (0, 0, 9))
    if encoder == "hf-frozen":
        for state in (uninterrupted, first, second):
            state.shan.text_encoder.keep_states(CAPTIONS, 2**20)
    steps(uninterrupted, config, before + 4)
    steps(first, config, before)
    first.progress.history = [(1, 2, {"loss": 0.5}), *((5 * e, 2, {"epoch": e, "val_rsum": 124.5 - e}) for e in (1, 2))]
    first.progress.validated, first.progress.best_epoch, first.progress.best_rsum = 2, 1, 123.5
    first.save(tmp_path, {"run": "r"})
    torch.manual_seed(77)  # the random state of the process does not matter
    second.load(tmp_path)
    assert second.progress == first.progress
    steps(second, config, 4)
    for one, other in ((uninterrupted.shan, second.shan), (uninterrupted.evaluation_model, second.evaluation_model)):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


def test_training_is_finished_by_epochs_or_early_stopping():
    config = TrainConfig(epochs=5, early_stopping_patience=2)
    assert not TrainingProgress(validated=4, best_epoch=3).is_finished(config)
    assert TrainingProgress(validated=4, best_epoch=2).is_finished(config)
    assert TrainingProgress(validated=5, best_epoch=5).is_finished(config)
    assert not TrainingProgress(validated=4, best_epoch=1).is_finished(TrainConfig(epochs=5))


def test_names_contain_the_fencing_token():
    assert step_checkpoint(120, token=2) == "step-00000120-lease-000002"
    assert epoch_checkpoint(3, token=1) == "epoch-003-lease-000001"


def weight(state: TrainState) -> torch.Tensor:
    return state.shan.image_encoder.project.weight.data


def moment(state: TrainState) -> torch.Tensor:
    parameter = state.shan.image_encoder.project.weight
    found: torch.Tensor = state.optimizer.state[parameter]["exp_avg_sq"]
    return found


@pytest.mark.parametrize("part", [weight, moment])
@pytest.mark.parametrize("ema", [0.0, 0.7])
def test_state_that_is_not_finite_is_neither_saved_nor_resumed(tmp_path: Path, ema: float, part: Callable):
    config, model = TrainConfig(ema_decay=ema), ModelConfig(region_dim=6, joint_dim=8, word_dim=4)
    state = fresh(config, model)
    steps(state, config, 1)
    (tmp_path / "good").mkdir()
    state.save(tmp_path / "good", {"run": "r"})
    part(state)[0, 0] = torch.inf
    (tmp_path / "bad").mkdir()
    with pytest.raises(UserError, match=r"after step 1, 1 of 48 numbers of the weights '.*project.weight' are NaN or"):
        state.save(tmp_path / "bad", {"run": "r"})
    assert list((tmp_path / "bad").iterdir()) == []
    for name in (STATE, WEIGHTS):  # as a version wrote that did not check
        tensors = load_file(tmp_path / "good" / name)
        next(each for each in tensors.values() if each.is_floating_point()).view(-1)[0] = torch.nan
        save_file(tensors, tmp_path / "good" / name)
        with pytest.raises(
            UserError, match=r"^s3://b/r/epoch-001: this checkpoint cannot be resumed .* are NaN or inf"
        ):
            fresh(config, model).load(tmp_path / "good", "s3://b/r/epoch-001")


def test_corrupt_checkpoint_is_an_error_in_one_line(tmp_path: Path):
    config, model = TrainConfig(), ModelConfig(region_dim=6, joint_dim=8, word_dim=4)
    state = fresh(config, model)
    state.save(tmp_path, {"run": "r"})
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:-3])
    with pytest.raises(UserError, match=r"this checkpoint cannot be resumed .*; delete the run directory") as caught:
        state.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("found", [None, "shan-checkpoint/2"])
def test_unknown_format_is_an_error_in_one_line(tmp_path: Path, found: str | None):
    config = TrainConfig()
    state = fresh(config, ModelConfig(region_dim=6, joint_dim=8, word_dim=4))
    state.save(tmp_path, {"run": "r"})
    document = json.loads((tmp_path / PROGRESS).read_text())
    assert document.pop("format") == "shan-checkpoint/1"
    (tmp_path / PROGRESS).write_text(json.dumps(document if found is None else document | {"format": found}))
    with pytest.raises(UserError, match=r"progress\.json: format is .*, but this release reads 'shan-checkpoint/1'"):
        read_progress(tmp_path)
    with pytest.raises(UserError, match="format is"):
        state.load(tmp_path)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ({"step": -1}, "step is -1"),
        ({"step": "3"}, "step is '3'"),
        ({"validated": 1.5}, "validated is 1.5"),
        ({"validated": 2}, "validated is 2, but history contains the epochs []"),
        ({"best_epoch": 4}, "the best epoch and rSum are (4, -1.0), but (0, -1.0) in history"),
        ({"best_rsum": float("nan")}, "are (0, nan), but (0, -1.0)"),
        ({"best_rsum": "high"}, "are (0, 'high'), but (0, -1.0)"),
        ({"history": [[9, 0, {"epoch": 2, "val_rsum": 5.0}]], "validated": 1}, "contains the epochs [2]"),
        ({"history": [[9, 0, {"epoch": 1, "val_rsum": 5.0}]], "validated": 1}, "(0, -1.0), but (1, 5.0) in history"),
        ({"history": None}, "not iterable"),
        ({"history": [[1, 2, {"loss": "low"}]]}, "history contains {'loss': 'low'}"),
        ({"history": [[1, 2, []]]}, "history contains []"),
        ({"history": [[1, 2, {"epoch": 1}]]}, "has no val_rsum"),
        ({"phase": 1}, "unexpected keyword argument 'phase'"),
    ],
)
def test_edited_progress_is_an_error_in_one_line(edit: dict[str, object], reason: str):
    document = {"format": "shan-checkpoint/1", **asdict(TrainingProgress()), **edit}
    with pytest.raises(
        UserError, match=rf"^s3://b/progress\.json is corrupt \(.*{re.escape(reason)}.*; delete the run"
    ):
        parse_progress(document, "s3://b/progress.json")


@pytest.mark.parametrize(("step", "is_possible"), [(9, False), (10, True), (15, True), (16, False), (10**30, False)])
def test_step_of_another_epoch_is_an_error(step: int, is_possible: bool):
    """Two epochs of five steps are validated: the third one's steps are 10 (none yet) to 15 (not validated yet)."""
    progress = TrainingProgress(step=step, validated=2)
    if is_possible:
        progress.require_fits(5, "p")
    else:
        with pytest.raises(
            UserError, match=f"^p is corrupt .step is {step}, but after epoch 2 it is 10 to 15.; delete"
        ):
            progress.require_fits(5, "p")


@pytest.mark.parametrize("content", ["", '{"format": "shan', "[]", '{"format": "shan-checkpoint/1"}'])
def test_truncated_progress_is_an_error_in_one_line(tmp_path: Path, content: str):
    (tmp_path / PROGRESS).write_text(content)
    with pytest.raises(UserError, match=r"progress\.json is corrupt \(step is missing\); delete the run directory"):
        read_progress(tmp_path)
