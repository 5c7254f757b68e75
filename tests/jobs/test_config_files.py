"""Presets and config files, as commands read them."""

from pathlib import Path

import pytest
import yaml

from infra.errors import StorageError, UserError
from jobs import cli
from jobs.config import Config
from jobs.config_files import PRESETS, preset_sections
from shan_model.config import ModelConfig
from tests.support.bad_stores import closed

ALL = tuple(Config.__dataclass_fields__)


def parse(*argv: str, sections: tuple[str, ...] = ALL) -> Config:
    return cli.parse("quickstart", "d", lambda _: None, sections, list(argv))[1]


def test_the_presets_of_its_data_sets_have_the_papers_settings():
    config = parse("--preset", "flickr30k")
    assert (config.model.joint_dim, config.model.word_dim, config.model.temperature) == (1024, 300, 15)
    assert (config.model.l2l_weight, config.model.g2l_weight, config.train.margin) == (0.3, 0.5, 0.2)
    assert (config.train.epochs, config.train.batch_size, config.train.learning_rate) == (30, 128, 2e-4)
    assert (config.train.lr_decay_epoch, config.train.max_grad_norm, config.train.hard_negative_warmup_epochs) == (
        15,
        2.0,
        0,
    )


def test_paper_preset_is_that_of_its_data_sets():
    """It names every setting, so that a changed default does not change it."""
    paper = parse("--preset", "paper")
    assert paper == parse("--preset", "flickr30k") == parse("--preset", "coco")
    shan = {"matcher", "scan_pooling", "scan_lse_factor", "hf_model", "fixed_word_dim"}
    document = yaml.safe_load((PRESETS / "paper.yaml").read_text())
    assert preset_sections("paper", ("model", "cluster")) == {"model": document["model"]}
    assert document["model"].keys() == ModelConfig.__dataclass_fields__.keys() - shan
    assert document["model"].items() <= vars(paper.model).items()


def test_every_preset_is_valid():
    presets = {path.stem for path in PRESETS.glob("*.yaml")}
    assert presets == {"quickstart", "paper", "best", "flickr30k", "coco"}
    for preset in presets:
        assert parse("--preset", preset) != Config(), f"{preset} sets nothing"


def test_a_file_may_contain_sections_of_other_commands(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("train: {epochs: 3}\ntracking: {experiment: mine}\n")
    assert parse("--config", str(file), sections=("tracking",)).tracking.experiment == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {epoks: 3}", "train has no field 'epoks'; correct the name; see `"),
        ("train: {epochs: 3, seed: 1, epochs: 4}", "'epochs' occurs twice"),
        ("train: {epochs: 3}\nscore: {num_actors: 1}\ntrain: {seed: 1}", "'train' occurs twice"),
        ("trian: {epochs: 3}", "unknown section 'trian'; sections are scenes, extract"),
        ("train: [1, 2", "; fix its syntax"),
        ("3", "not YAML of config sections"),
        ("- train", "not YAML of config sections (it is a list)"),
        ("[" * 3000, "not YAML of config sections"),
        ("train: {seed: 18446744073709551616}", "train.seed is 18446744073709551616; it must be below 2^63"),
        ("extract: {detector_gpus: .nan}", "extract.detector_gpus is nan"),
        ("extract: {detector_cpus: .nan}", "extract.detector_cpus is nan"),
        ("train: {epochs: null}", "train.epochs has no value"),
        ("extract: {output: null}", "extract.output has no value"),
        ("model:", "section 'model' has no fields"),
        ("train: 3", "section 'train' has no fields"),
        ("train: {epochs: many}", "train.epochs is 'many'; give a whole number; see `"),
    ],
)
def test_an_invalid_config_file_is_one_line(tmp_path: Path, text: str, message: str):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        parse("--config", str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_file_in_a_closed_folder_is_not_missing(tmp_path: Path):
    parse()  # imports all that parsing needs
    with closed(tmp_path), pytest.raises(StorageError, match=f"^{tmp_path}/a.yaml: cannot be accessed"):
        parse("--config", f"{tmp_path}/a.yaml")
