"""The model bundle: a folder with weights.safetensors, config.json and vocabulary.json. It contains no pickle.

config.json holds the fields of `ModelConfig` and the version of the bundle's format. A bundle with a Hugging Face
text encoder also has a folder text_encoder/ with the encoder's config and tokenizer (HF_FILES); its weights are stored
with the others.
"""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import load_file, save_file

from shan_model.config import ModelConfig
from shan_model.finite import require_finite_weights
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary

FORMAT = "shan-model/1"
"""Version of the format, in config.json under `format`. Increased when an older release can no longer read a bundle."""
WEIGHTS, CONFIG, VOCABULARY = "weights.safetensors", "config.json", "vocabulary.json"
FILES = (WEIGHTS, CONFIG, VOCABULARY)
TEXT_ENCODER = "text_encoder"
HF_FILES = tuple(f"{TEXT_ENCODER}/{name}" for name in ("config.json", "tokenizer.json", "tokenizer_config.json"))
"""Files of a bundle with a Hugging Face text encoder, in addition to FILES."""


class ModelFormatError(ValueError):
    """A bundle has a format version that this release does not read, or none."""


def save_bundle(model: SHAN, folder: Path) -> None:
    """Writes the files of `model` into `folder`, which is created if necessary; existing files are replaced.

    Raises NotFiniteError, and writes nothing, if a weight is NaN or infinite.
    """
    require_finite_weights(model.state_dict())
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
    config = {"format": FORMAT, **asdict(model.config)}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    words = json.dumps(model.vocabulary.words, ensure_ascii=False, indent=0)
    (folder / VOCABULARY).write_text(words + "\n", encoding="utf-8")
    model.text_encoder.save_files(folder / TEXT_ENCODER)


def load_bundle(folder: Path) -> SHAN:
    """Returns the model of `folder` in evaluation mode, on the CPU. It reads only these files and no network.

    Config fields that the bundle does not have take their defaults. Raises ModelFormatError for another format
    version, NotFiniteError for NaN or infinite weights, and ValueError, TypeError or RuntimeError if a file does not
    match the others: an unknown config field, or a weight that is missing, surplus or of another shape.
    """
    config = _read_config(folder / CONFIG)
    vocabulary = Vocabulary(tuple(json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))))
    model = SHAN(config, vocabulary, folder / TEXT_ENCODER)
    weights = load_file(folder / WEIGHTS)
    require_finite_weights(weights)
    model.load_state_dict(weights, strict=True)
    return model.eval()


def _read_config(path: Path) -> ModelConfig:
    stored = dict(json.loads(path.read_text(encoding="utf-8")))
    if "format" not in stored:
        raise ModelFormatError(f"{CONFIG} has no format version; the model predates version 0.2, train it again")
    found = stored.pop("format")
    if found != FORMAT:
        raise ModelFormatError(f"{CONFIG} has the format {found!r}, this release reads {FORMAT!r}; upgrade shan-line")
    return ModelConfig(**stored)
