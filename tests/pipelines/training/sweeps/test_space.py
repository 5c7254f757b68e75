"""Search spaces as given to --space."""

import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.training.config import TrainConfig
from pipelines.training.setup import TrainingSetup
from pipelines.training.sweeps.space import check_space, parse_space, samples, space_identity, with_fields


def test_samples_are_within_their_distributions():
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
        ("train.learning_rate", "write section.field=distribution"),
        ("train.learning_rate=normal(0, 1)", "where distribution is one of choice, grid"),
        (
            "train.lerning_rate=choice(1)",
            "train.lerning_rate is not a field of the model or train section; write one",
        ),
        ("extract.detector=choice(a)", "extract.detector is not a field of"),
        ("train.margin=uniform(0.3, 0.1)", "uniform takes two numbers, a lower and a larger upper bound"),
        ("train.margin=uniform(-1e308, 1e308)", "uniform takes two numbers, a lower and a larger upper bound"),
        ("train.seed=randint(0, 1e30)", "randint takes two numbers, a lower and a larger upper bound"),
        ("train.seed=choice(.inf)", "a value is not finite; give numbers and words"),
        ("train.margin=uniform(0.1, .inf)", "uniform takes two numbers, a lower and a larger upper bound"),
        ("train.margin=uniform(a, b)", "uniform takes two numbers, a lower and a larger upper bound"),
        ("train.margin=loguniform(0, 0.1)", "loguniform takes positive bounds"),
        ("train.seed=randint(0, 2.5)", "randint takes two integers"),
        ("train.margin=choice('0.1)", "the parentheses are not valid YAML (found unexpected end of stream)"),
        ("train.margin=choice(0.1, [0.2)", "the values in the parentheses are not valid YAML"),
        ("train.margin=choice([0.1, 0.2])", "a value is a list or a mapping; give numbers and words"),
        pytest.param(f"train.margin=choice({'[' * 5000})", "maximum recursion depth exceeded", id="nested"),
        ("train.margin=choice(a: 1)", "a value is a list or a mapping; give numbers and words"),
        ("train.epochs=choice(2, 3)", "set --train.epochs for all"),
        ("train.seed=choice()", "no values in the parentheses"),
    ],
)
def test_invalid_entry_is_named(entry: str, message: str):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        parse_space([entry])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            ["model.gate=choice(vector, tensor)"],
            "model.gate=tensor, which is not a valid setup (model.gate is 'tensor'; ch",
        ),
        (["train.batch_size=choice(32.5)"], "train.batch_size is 32.5; it must be an integer"),
        (["train.batch_size=uniform(8, 64)"], "it must be an integer"),  # both bounds are valid
        (["train.batch_size=randint(2, 99)"], "for 4 workers; give each at least 2); change the distribution"),
        (["train.ema_decay=uniform(0.9, 1)"], "train.ema_decay is 1.0; it must be at least 0 and below 1"),
        (["train.precision=choice(fp32, fp16)"], "train.precision is 'fp16'; choose one of: fp32, bf16"),
        (["train.lr_schedule=grid(linear)"], "train.lr_schedule is 'linear'; choose one of: "),
        (["train.margin=uniform(0, 0.5)"], "train.margin is 0.0; it must be positive"),
        (["train.early_stopping_patience=choice(many)"], "is 'many'; it must have the type of its default, 0"),
        (["train.seed=choice(true)"], "train.seed is True; it must have the type of its default, 0"),
        (["train.seed=choice(null)"], "train.seed is None; it must have the type of its default, 0"),
        (["model.normalize=choice(1)"], "model.normalize is 1; it must have the type of its default, True"),
        (["model.text_encoder=choice(hf)"], "set model.hf_model to a folder or hub name if, and only if,"),
        (["model.text_encoder=choice(gru, hf)", "model.hf_model=choice(bert)"], "model.hf_model is 'bert' and"),
    ],
)
def test_impossible_samples_and_bounds_are_refused(entries: list[str], message: str):
    setup = TrainingSetup(train=TrainConfig(num_workers=4))
    space = parse_space(entries)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        check_space(space, samples(space, 8, seed=0), setup)
    assert str(caught.value).startswith("--space allows ")
    assert "\n" not in str(caught.value)


def test_fields_that_are_valid_only_together_are_accepted():
    space = parse_space(
        ["model.text_encoder=choice(hf)", "model.hf_model=choice(bert)", "train.batch_size=choice(1e2)"]
    )
    sampled = samples(space, 2, seed=0)
    check_space(space, sampled, TrainingSetup())
    setup = with_fields(TrainingSetup(), sampled[0])
    assert (setup.model.text_encoder, setup.model.hf_model) == ("hf", "bert")
    assert (setup.train.batch_size, type(setup.train.batch_size)) == (100, int)


def test_space_has_each_field_once_and_is_not_empty():
    with pytest.raises(UserError, match="twice"):
        parse_space(["train.seed=choice(1)", "train.seed=choice(2)"])
    with pytest.raises(UserError, match="empty"):
        parse_space([])


def test_duplicate_samples_are_one_trial():
    """Two trainings of the same settings would share a run directory."""
    space = parse_space(["model.gate=choice(vector, scalar)", "train.seed=grid(0, 1)"])
    found = samples(space, 8, seed=0)
    assert sorted((each["model.gate"], each["train.seed"]) for each in found) == [
        ("scalar", 0), ("scalar", 1), ("vector", 0), ("vector", 1),
    ]  # fmt: skip
    rates = samples(parse_space(["train.learning_rate=loguniform(1e-4, 1e-2)"]), 5, seed=3)
    assert len({each["train.learning_rate"] for each in rates}) == 5
    assert rates == samples(parse_space(["train.learning_rate=loguniform(1e-4, 1e-2)"]), 5, seed=3)
    assert all(1e-4 <= each["train.learning_rate"] <= 1e-2 for each in rates)
    (few,) = samples(parse_space(["train.hard_negative_warmup_epochs=randint(1, 2)"]), 3, seed=0)
    assert asdict(with_fields(TrainingSetup(), few).train)["hard_negative_warmup_epochs"] == 1
    with pytest.raises(UserError, match=r"train\.num_workers does not affect the result"):
        parse_space(["train.num_workers=grid(1, 2)"])


def identity_of(*entries: str) -> list[str]:
    return space_identity(entries, parse_space(entries))


def test_entries_without_a_file_enter_the_identity_as_written():
    entries = [
        "train.learning_rate=loguniform(1e-4,  1e-2)", "train.seed=grid(0,1)", "model.gate=choice( vector)",
        "model.hf_model=choice(bert-base-uncased, 'roberta-base')", "train.word_vectors=choice('')",
    ]  # fmt: skip
    assert identity_of(*entries) == entries


def test_word_vectors_in_a_space_enter_its_identity_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, text in (("a.txt", "dog 1 2"), ("b.txt", "dog 1 3"), ("copy of a.txt", "dog 1 2")):
        (tmp_path / name).write_text(text)
    field = "train.word_vectors"
    before = identity_of(f"{field}=choice('', {tmp_path}/a.txt, {tmp_path}/b.txt)")
    assert str(tmp_path) not in before[0]
    assert before == identity_of(f"{field}=choice('', {tmp_path}/copy of a.txt, {tmp_path}/b.txt)")
    assert before != identity_of(f"{field}=grid('', {tmp_path}/a.txt, {tmp_path}/b.txt)")
    assert before != identity_of(f"{field}=choice('', {tmp_path}/b.txt, {tmp_path}/a.txt)")
    monkeypatch.chdir(tmp_path)
    assert before == identity_of(f"{field}=choice('', a.txt, b.txt)")
    (tmp_path / "b.txt").write_text("dog 1 4")
    assert before != identity_of(f"{field}=choice('', a.txt, b.txt)")


def test_paths_in_a_space_do_not_depend_on_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "bert").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    space = parse_space(
        [
            "train.word_vectors=choice('', a.txt, ~/b.txt, 'c #1%20.txt')",
            "model.hf_model=grid(bert, ~/bert, bert-base-uncased)",
        ]
    )
    files = [f"{tmp_path}/{name}" for name in ("a.txt", "b.txt", "c #1%20.txt")]
    assert space["train.word_vectors"].categories == ["", *files]
    assert space["model.hf_model"]["grid_search"] == [f"{tmp_path}/bert", f"{tmp_path}/bert", "bert-base-uncased"]


def test_a_text_encoder_enters_the_identity_by_content(tmp_path: Path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text("{}")
    shutil.copytree(tmp_path / "bert", tmp_path / "copy")
    before = identity_of(f"model.hf_model=choice({tmp_path}/bert, bert-base-uncased)")
    assert before == identity_of(f"model.hf_model=choice({tmp_path}/copy, bert-base-uncased)")
    (tmp_path / "copy" / "config.json").write_text("[]")
    assert before != identity_of(f"model.hf_model=choice({tmp_path}/copy, bert-base-uncased)")


def test_files_of_equal_content_in_one_entry_are_refused(tmp_path: Path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("dog 1 2")
    with pytest.raises(
        UserError, match=r"/a\.txt, .*/b\.txt\)' names two files of the same content; name one of them$"
    ):
        identity_of(f"train.word_vectors=choice({tmp_path}/a.txt, {tmp_path}/b.txt)")
