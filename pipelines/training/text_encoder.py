"""The Hugging Face text encoder that a training starts from: checked by the driver, fetched by each worker."""

from pathlib import Path

from infra.errors import UserError
from infra.hub import fetch_snapshot, within_rate
from infra.paths import is_file
from pipelines.training.setup import TrainingSetup
from shan_model.config import ModelConfig

FILES = (
    *("*.json", "*.txt", "*.model"),  # config, and tokenizers of any kind
    *("model.safetensors", "model-?????-of-?????.safetensors"),
)
"""Patterns of the files that `HuggingFaceEncoder` reads."""


def check_text_encoder(setup: TrainingSetup) -> None:
    """Raises UserError if the config or tokenizer of `model.hf_model` cannot be loaded, or is not supported.

    AccessDeniedError for a folder that this user may not enter.
    Also for word vectors, which this encoder does not use, and for a width of word vectors without a file of them.
    """
    if setup.model.fixed_word_dim and not setup.train.word_vectors:
        raise UserError(
            f"model.fixed_word_dim is {setup.model.fixed_word_dim}, but train.word_vectors, whose width it is, is not "
            "set; omit it"
        )
    if setup.model.text_encoder == "hf":
        from shan_model.hf_encoder import check_pretrained

        if path := setup.train.word_vectors:
            raise UserError(f"train.word_vectors is {path}, but has no effect with model.text_encoder=hf; omit it")
        # Raises for a folder that this user may not enter, whose path transformers takes for an invalid hub name.
        is_file(Path(setup.model.hf_model, "config.json"))
        try:
            within_rate(setup.model.hf_model, lambda: check_pretrained(setup.model.hf_model))
        except TimeoutError as error:
            raise _not_fetched(setup.model.hf_model, error) from error
        except ValueError as error:
            raise UserError(str(error)) from error


def fetch_text_encoder(model: ModelConfig) -> None:
    """Fetches the files of a text encoder on the hub that the cache of this node lacks, of which SHAN is then built.

    Raises UserError if they cannot be fetched.
    """
    name = model.hf_model
    if model.text_encoder != "hf" or name.startswith("/"):  # `TrainingSetup` makes folders absolute
        return
    try:
        fetch_snapshot(name, None, FILES)
    except Exception as error:  # the library's own, those of HTTP and of the disk
        raise _not_fetched(name, error) from error


def _not_fetched(name: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(
        f"model.hf_model {name!r} cannot be fetched ({reason}); check HF_ENDPOINT, HF_TOKEN and the network, or fill "
        f"the cache of each node: hf download {name}"
    )
