"""A Hugging Face text encoder as an alternative to the GRU. It needs `transformers` (the project's extra `hf`).

Models cannot run code of their own (`trust_remote_code` is off) and no pickles are read (safetensors only).

Shapes: C captions, W tokens of a caption, H width of the encoder, D joint width.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from shan_model.config import ModelConfig
from shan_model.encoders import TextEncoder
from shan_model.frozen_states import FrozenStates
from shan_model.ragged import Ragged

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

BATCH_SIZE = 128
"""Captions per forward pass of the encoder; this bounds its memory for any number of captions."""

MAX_TOKENS = 4096
"""Tokens of a caption that are kept if neither the tokenizer nor the model states a limit."""


class HuggingFaceEncoder(TextEncoder):
    """t_j = W h_j + b of the last hidden states h_j, L2-normalised; Xavier-uniform weight, zero bias.

    The start and end tokens of the tokenizer are kept, like `<start>` and `<end>` of the GRU. Captions longer than the
    encoder's limit are truncated. In training, the encoder's own dropout is active, so each encoding of a caption is a
    new sample. A step encodes each caption once and uses that encoding for mining and loss, so the loss stays exact.
    A frozen encoder (`freeze`) has no dropout.
    """

    def __init__(self, config: ModelConfig, files: Path | None = None) -> None:
        """Builds the encoder from `files` without weights and network, or loads `config.hf_model` pretrained.

        The files of a hub name have to be in the hub's cache on this machine: nothing is downloaded.
        Raises ValueError if transformers is not installed or the model is not supported.
        """
        super().__init__()
        self.normalize = config.normalize
        self.frozen = False
        self.states: FrozenStates | None = None
        with _load_errors(files or config.hf_model):
            self.tokenizer, self.encoder = _pretrained(config.hf_model) if files is None else _saved(files)
        _check_supported(config.hf_model, self.tokenizer, self.encoder.config)
        self.limit = min(self.tokenizer.model_max_length, MAX_TOKENS, *_position_limits(self.encoder))
        self.project = nn.Linear(self.encoder.config.hidden_size, config.joint_dim)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, captions: Sequence[str]) -> Sequence[Tensor]:
        """Encodes C sentences to C matrices W_c x D."""
        if self.states is not None and self.training:
            states = Ragged.of(self.states.of(captions, self._hidden))
            return Ragged(self._words(states.rows_TD.to(self.project.weight.device)), states.starts, states.lengths)
        encoded: list[Tensor] = []
        for hidden_CWH, lengths in self._batches(captions):
            encoded += _rows(self._words(hidden_CWH), lengths)
        return encoded

    def train(self, mode: bool = True) -> "HuggingFaceEncoder":
        """Sets the mode of training or evaluation; frozen weights stay in that of evaluation."""
        super().train(mode)
        self.encoder.train(mode and not self.frozen)
        return self

    def freeze(self) -> None:
        """Excludes the pretrained weights from training. Those of the projection still train."""
        self.frozen = True
        self.encoder.requires_grad_(False).eval()

    def keep_states(self, captions: Sequence[str], limit: int) -> None:
        """Makes training encode each of these captions once, with frozen weights, and keep up to `limit` bytes."""
        assert self.frozen, "states of weights that train change in every step"
        tokens = dict(zip(captions, map(len, self._ids(captions)), strict=True))
        self.states = FrozenStates(tokens, 4 * self.encoder.config.hidden_size, limit)

    def layers_above(self) -> Iterator[tuple[nn.Parameter, int]]:
        """Yields each pretrained weight, and how many layers of the encoder are above it.

        The first number in the name of a weight is that of its layer. Weights before those of the first layer are
        embeddings, below all layers. Other weights without a number, such as a last norm, count with the top layer.
        """
        weights = dict(self.encoder.named_parameters())
        layer = {name: int(match[1]) for name in weights if (match := re.search(r"(?:^|\.)(\d+)\.", name))}
        top, is_embedding = max(layer.values(), default=-1), True
        for name, weight in weights.items():
            is_embedding = is_embedding and name not in layer
            yield weight, top - (-1 if is_embedding else layer.get(name, top))

    def tokens(self, caption: str) -> list[str]:
        """Returns the tokenizer's subword tokens of the sentence, including its special tokens."""
        pieces: list[str] = self.tokenizer.convert_ids_to_tokens(self._ids([caption])[0])
        return pieces

    def known(self, caption: str) -> list[bool]:
        """Returns whether each of these tokens is another than the tokenizer's unknown token."""
        return [token != self.tokenizer.unk_token_id for token in self._ids([caption])[0]]

    def save_files(self, folder: Path) -> None:
        """Writes the encoder's config and tokenizer, without weights."""
        self.encoder.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _ids(self, captions: Sequence[str]) -> list[list[int]]:
        # Lone surrogates, which the tokenizer rejects, are replaced.
        valid = [caption.encode(errors="replace").decode() for caption in captions]
        ids: list[list[int]] = self.tokenizer(valid, truncation=True, max_length=self.limit)["input_ids"]
        return ids

    def _batches(self, captions: Sequence[str]) -> Iterator[tuple[Tensor, list[int]]]:
        """Yields the last hidden states C x W x H of at most BATCH_SIZE captions each, with their numbers of tokens."""
        device = self.project.weight.device
        for start in range(0, len(captions), BATCH_SIZE):
            ids = [torch.tensor(i) for i in self._ids(captions[start : start + BATCH_SIZE])]
            # Masked positions are not attended, so any id that exists in the embedding table can fill them.
            padded_CW = pad_sequence(ids, batch_first=True, padding_value=self.tokenizer.pad_token_id or 0)
            mask_CW = pad_sequence([torch.ones_like(i) for i in ids], batch_first=True)
            output = self.encoder(input_ids=padded_CW.to(device), attention_mask=mask_CW.to(device))
            yield output.last_hidden_state, [len(i) for i in ids]

    def _hidden(self, captions: Sequence[str]) -> list[Tensor]:
        """Returns C matrices W_c x H, the last hidden states."""
        return [states_WH for batch in self._batches(captions) for states_WH in _rows(*batch)]

    def _words(self, hidden: Tensor) -> Tensor:
        """Returns the word features of hidden states, with D in place of H."""
        words = self.project(hidden)
        return functional.normalize(words, dim=-1) if self.normalize else words


def _rows(padded_CWX: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """Returns C matrices W_c x X without padding."""
    return [rows_WX[:length] for rows_WX, length in zip(padded_CWX, lengths, strict=True)]


@cache  # the trials of a sweep share encoders
def check_pretrained(name: str) -> None:
    """Raises ValueError, in one line with the fix, if `HuggingFaceEncoder` cannot load or use a model.

    Reads the config and the tokenizer. Weights are not read, so incomplete ones are not found.
    """
    with _load_errors(name):
        from transformers import AutoConfig, AutoTokenizer

        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        if Path(name).is_dir() and not any(Path(name).glob("*.safetensors")):
            raise FileNotFoundError("it has no model.safetensors")
    _check_supported(name, tokenizer, config)


@contextmanager
def _load_errors(shown: str | Path) -> Iterator[None]:
    """Raises ValueError with the fix for what transformers raises if a model or its tokenizer cannot be loaded."""
    try:
        yield
    except Exception as error:  # invalid files give OSError, ValueError, KeyError and errors of huggingface_hub
        if isinstance(error, ModuleNotFoundError) and error.name == "transformers":
            raise ValueError(
                f"model.hf_model {str(shown)!r} needs the package transformers; install it: pip install 'shan-line[hf]'"
            ) from error
        raise ValueError(
            f"model.hf_model {str(shown)!r} cannot be loaded ({' '.join(str(error).split())}); "
            "give a folder or hub name with config.json, model.safetensors and a fast tokenizer"
        ) from error


def _pretrained(name: str) -> "tuple[PreTrainedTokenizerBase, PreTrainedModel]":
    from transformers import AutoModel, AutoTokenizer

    # transformers has no deadline for downloads, and requests each file's version before it reads its cache.
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, local_files_only=True)
    encoder, found = AutoModel.from_pretrained(
        name, trust_remote_code=False, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    missing = sorted(key for key in found["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ValueError(f"it lacks {len(missing)} weight tensors, the first {missing[0]}")
    return tokenizer, _fit_for_training(encoder)


def _saved(files: Path) -> "tuple[PreTrainedTokenizerBase, PreTrainedModel]":
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    if not files.is_dir():  # transformers would take a missing path for a name on the hub
        raise FileNotFoundError(f"folder {files} does not exist")
    tokenizer = AutoTokenizer.from_pretrained(files, trust_remote_code=False, local_files_only=True)
    config = AutoConfig.from_pretrained(files, trust_remote_code=False, local_files_only=True)
    return tokenizer, _fit_for_training(AutoModel.from_config(config, trust_remote_code=False))


def _fit_for_training(encoder: "PreTrainedModel") -> "PreTrainedModel":
    """Returns the encoder in float32, without its unused pooler: DDP would wait for the pooler's gradients."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder.float()


def _check_supported(name: str, tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig") -> None:
    """Raises ValueError unless the model is a text encoder with a fast tokenizer and special tokens."""
    if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
        kind = config.model_type
        raise ValueError(f"model.hf_model {name!r} is a {kind}, not a text encoder; use one such as BERT or RoBERTa")
    if not tokenizer.is_fast:
        raise ValueError(f"model.hf_model {name!r} has no tokenizer.json; save its fast tokenizer with the model")
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers builds it even from missing files
        raise ValueError(f"model.hf_model {name!r} has a tokenizer without words; save tokenizer.json with the model")
    if len(tokenizer("")["input_ids"]) < 2:
        raise ValueError(
            f"the tokenizer of model.hf_model {name!r} adds no start and end tokens, so an empty caption would have "
            "no tokens; use an encoder such as BERT or RoBERTa"
        )


def _position_limits(encoder: nn.Module) -> list[int]:
    """Returns the number of tokens that each position embedding supports; positions start after a padding index."""
    return [
        table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
        for name, table in encoder.named_modules()
        if isinstance(table, nn.Embedding) and "position" in name
    ]
