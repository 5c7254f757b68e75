"""Identity of a training: what renames its run directory and what does not."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.features.feature_set import FeatureSet
from pipelines.training.config import OPERATIONAL_FIELDS, TrainConfig
from pipelines.training.identity import DEFAULTS, content_digest, directory_name, settings_identity, training_identity
from pipelines.training.setup import TrainingSetup
from pipelines.training.sweeps.config import SweepConfig
from shan_model.config import ModelConfig
from tests.support import feature_sets
from tests.support.tiny_bert import write_tiny_bert


def setup_of(**train: object) -> TrainingSetup:
    return TrainingSetup(train=TrainConfig(**train))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    folder = tmp_path_factory.mktemp("features")
    return feature_sets.write_set(folder, feature_sets.manifest(folder))


def test_name_of_a_known_identity_never_changes():
    """A change here renames all existing run directories."""
    train = TrainConfig(learning_rate=1e-3, hard_negative_warmup_epochs=0)
    setup = TrainingSetup(ModelConfig(affinity_init="xavier"), train)
    identity = {"version": 1, "feature_set": "0" * 64, **settings_identity(setup)}
    assert identity == {"version": 1, "feature_set": "0" * 64, "model": {}, "train": {"learning_rate": 1e-3}}
    assert directory_name("m", identity) == "m-5bf02ec90283"


def test_only_settings_that_affect_the_result_enter(features: FeatureSet):
    default = training_identity(features, setup_of())
    operational = {
        "num_workers": 3, "min_workers": 1, "cpus_per_worker": 2, "use_gpu": True, "max_failures": 9,
        "checkpoint_every_n_steps": 7, "log_every_n_steps": 7, "profile_steps": 7, "output": "elsewhere",
    }  # fmt: skip
    assert operational.keys() == set(OPERATIONAL_FIELDS)
    assert training_identity(features, setup_of(**operational)) == default
    changed = {"hard_negative_warmup_epochs": 1}  # the default of earlier versions was 0
    assert default["train"] == changed
    assert training_identity(features, setup_of(seed=1)) == default | {"train": changed | {"seed": 1}}
    streamed = training_identity(features, setup_of(data_mode="stream", num_workers=3))  # its batches depend on them
    assert streamed == default | {"train": changed | {"data_mode": "stream", "num_workers": 3}}


def test_other_features_are_another_training(features: FeatureSet, tmp_path: Path):
    other = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 12))
    assert training_identity(features, setup_of()) != training_identity(other, setup_of())


def test_new_field_with_a_neutral_default_changes_no_identity():
    @dataclass(frozen=True)
    class LaterTrainConfig(TrainConfig):
        label_smoothing: float = 0.0

    @dataclass(frozen=True)
    class LaterModelConfig(ModelConfig):
        dropout: float = 0.0

    now = replace(setup_of(seed=3), model=ModelConfig(joint_dim=64))
    later = replace(now, train=LaterTrainConfig(seed=3), model=LaterModelConfig(joint_dim=64))
    assert settings_identity(later) == settings_identity(now)
    used = replace(later, train=LaterTrainConfig(seed=3, label_smoothing=0.1))
    assert settings_identity(used)["train"] == settings_identity(now)["train"] | {"label_smoothing": 0.1}


def test_changed_default_of_a_field_changes_no_identity():
    @dataclass(frozen=True)
    class LaterTrainConfig(TrainConfig):
        learning_rate: float = 5e-4

    explicit = replace(setup_of(), train=LaterTrainConfig(learning_rate=2e-4))
    assert settings_identity(explicit) == settings_identity(setup_of())
    later = settings_identity(replace(setup_of(), train=LaterTrainConfig()))
    assert later["train"] == settings_identity(setup_of())["train"] | {"learning_rate": 5e-4}


@pytest.mark.parametrize(
    ("section", "config"), [("model", ModelConfig), ("train", TrainConfig), ("sweep", SweepConfig)]
)
def test_table_of_defaults_lists_every_field(section: str, config: type):
    """A new field belongs in DEFAULTS, with the value that leaves earlier trainings as they were."""
    excluded = set(OPERATIONAL_FIELDS) - {"num_workers"} if section == "train" else set()
    assert DEFAULTS[section].keys() == {field.name for field in fields(config)} - excluded


def test_word_vectors_enter_by_content(tmp_path: Path):
    first, copy, edited = (tmp_path / name for name in ("a.txt", "b.txt", "c.txt"))
    first.write_text("dog 1 2\n")
    copy.write_text("dog 1 2\n")
    edited.write_text("dog 1 3\n")
    one, same, other = (settings_identity(setup_of(word_vectors=str(path))) for path in (first, copy, edited))
    assert one == same != other
    assert one["train"]["word_vectors"].startswith("sha256:")


def test_local_text_encoder_enters_by_content(tmp_path: Path):
    first = write_tiny_bert(tmp_path / "first")
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in first.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())

    def identity(folder: str) -> dict[str, dict[str, object]]:
        return settings_identity(TrainingSetup(model=ModelConfig(text_encoder="hf", hf_model=folder)))

    assert identity(str(first)) == identity(str(copy))
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    assert identity(str(first)) != identity(str(copy))
    assert identity("bert-base-uncased")["model"]["hf_model"] == "bert-base-uncased"


def test_digest_of_a_folder_depends_on_names_and_content(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_text("1")
    before = content_digest(tmp_path / "a")
    (tmp_path / "a" / "b" / "x").rename(tmp_path / "a" / "b" / "y")
    renamed = content_digest(tmp_path / "a")
    (tmp_path / "a" / "b" / "y").write_text("2")
    assert len({before, renamed, content_digest(tmp_path / "a")}) == 3


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"train\.word_vectors '.*none\.txt' cannot be read"):
        settings_identity(setup_of(word_vectors=str(tmp_path / "none.txt")))
