"""Identity of a training: everything that its result depends on, and the hash that names its run directory.

The identity holds the digest of the feature set and the `model` and `train` settings that differ from DEFAULTS, so that
a new config field with a neutral default does not rename existing run directories. A file or folder that a setting
names enters by the sha256 of its content: the same file at another path is the same training, an edited one is not.
"""

import hashlib
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from infra.canonical_json import canonical_json
from infra.errors import UserError
from infra.paths import is_dir, is_file
from pipelines.features.feature_set import FeatureSet
from pipelines.training.setup import FILE_FIELDS, TrainingSetup, located

VERSION = 1
DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {
        "region_dim": 2048,
        "joint_dim": 1024,
        "text_encoder": "gru",
        "hf_model": "",
        "word_dim": 300,
        "fixed_word_dim": 0,
        "gru_layers": 1,
        "normalize": True,
        "variant": "full",
        "levels": "l2l+g2l+g2g",
        "affinity": "bilinear",
        "affinity_init": "xavier",
        "temperature": 15.0,
        "context_temperature": 1.0,
        "l2l_weight": 0.3,
        "g2l_weight": 0.5,
        "g2l_scale": 1.0,
        "g2g_scale": 1.0,
        "l2l_pooling": "mean",
        "gate": "vector",
        "gate_per_level": False,
        "matcher": "shan",
        "scan_pooling": "mean",
        "scan_lse_factor": 0.0,
    },
    "train": {
        "epochs": 30,
        "batch_size": 128,
        "gradient_accumulation_steps": 1,
        "data_mode": "cache",
        "allow_same_photo": False,
        "num_workers": 2,
        "precision": "fp32",
        "learning_rate": 2e-4,
        "text_encoder_learning_rate": 0.0,
        "text_encoder_layer_decay": 1.0,
        "freeze_text_encoder": False,
        "lr_schedule": "step",
        "lr_decay_epoch": 15,
        "warmup_steps": 0,
        "margin": 0.2,
        "hard_negative_warmup_epochs": 0,
        "max_grad_norm": 2.0,
        "ema_decay": 0.0,
        "word_dropout": 0.0,
        "early_stopping_patience": 0,
        "min_word_count": 1,
        "word_vectors": "",
        "seed": 0,
    },
    "sweep": {"num_trials": 8, "grace_period_epochs": 2, "reduction_factor": 3, "seed": 0},
}
"""Values that do not enter an identity of this version. Entries never change, even if a default does. A new field is
added with the value that leaves earlier trainings as they were."""


def training_identity(features: FeatureSet, setup: TrainingSetup) -> dict[str, Any]:
    """Returns what the result of a training depends on, as a JSON document."""
    return {"version": VERSION, "feature_set": features.index.feature_set, **settings_identity(setup)}


def settings_identity(setup: TrainingSetup) -> dict[str, dict[str, Any]]:
    """Returns the settings that affect the result and differ from DEFAULTS, by section.

    Raises UserError if a file that they name cannot be read.
    """
    model, train = asdict(setup.model), setup.train.result_fields()
    model["hf_model"] = file_content("model.hf_model", model["hf_model"])
    train["word_vectors"] = file_content("train.word_vectors", train["word_vectors"])
    return {
        "model": changed_fields("model", setup.model, model),
        "train": changed_fields("train", setup.train, train),
    }


def file_content(field: str, value: Any) -> Any:
    """Returns `sha256:<digest>` of the file or folder that the value of a dotted field names, else the value.

    Raises UserError if the file cannot be read.
    """
    path = located(field, value)
    if field not in FILE_FIELDS or not value or not Path(path).is_absolute():  # a name on the hub is not
        return value
    try:
        return f"sha256:{content_digest(Path(path))}"
    except OSError as error:
        raise UserError(f"{field} '{value}' cannot be read ({error.strerror}); check the path") from error


def directory_name(name: str, identity: dict[str, Any]) -> str:
    """Returns `<name>-<first 12 hex digits of the identity's sha256>`."""
    return f"{name}-{sha256(canonical_json(identity)).hexdigest()[:12]}"


def content_digest(path: Path) -> str:
    """Returns the sha256 of a file, or of the paths and digests of all files below a folder. Raises OSError."""
    if is_dir(path):
        files = {file.relative_to(path).as_posix(): content_digest(file) for file in path.rglob("*") if is_file(file)}
        return sha256(canonical_json(files)).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def changed_fields(section: str, config: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values that differ from DEFAULTS, or from the default of `config`'s class if DEFAULTS has none."""
    defaults = {name: field.default for name, field in config.__dataclass_fields__.items()} | DEFAULTS[section]
    return {name: value for name, value in values.items() if value != defaults[name]}
