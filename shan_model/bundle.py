"""A model as files: weights.safetensors, config.json, vocabulary.json. No pickle, so any reader may open it.

With an encoder of Hugging Face a folder text_encoder/ holds its config and tokenizer (HF_FILES); its weights
are with the others.
"""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import load_file, save_file

from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary

WEIGHTS, CONFIG, VOCABULARY = "weights.safetensors", "config.json", "vocabulary.json"
FILES = (WEIGHTS, CONFIG, VOCABULARY)
TEXT_ENCODER = "text_encoder"
HF_FILES = tuple(f"{TEXT_ENCODER}/{name}" for name in ("config.json", "tokenizer.json", "tokenizer_config.json"))
"""What a bundle with an encoder of Hugging Face holds besides FILES."""


def save_bundle(model: SHAN, folder: Path) -> None:
    """Writes the files into `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(asdict(model.config), indent=2) + "\n", encoding="utf-8")
    words = json.dumps(model.vocabulary.words, ensure_ascii=False, indent=0)
    (folder / VOCABULARY).write_text(words + "\n", encoding="utf-8")
    model.text_encoder.save_files(folder / TEXT_ENCODER)


def load_bundle(folder: Path) -> SHAN:
    """The model of `folder` in evaluation mode, from these files alone (no network is asked for anything).

    Raises if a weight is missing, surplus or of another shape.
    """
    config = ModelConfig(**json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    vocabulary = Vocabulary(tuple(json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))))
    model = SHAN(config, vocabulary, folder / TEXT_ENCODER)
    model.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    return model.eval()
