"""A text encoder of Hugging Face in the place of the GRU. It needs `transformers`, the extra `hf` of this project.

No code comes with a model (`trust_remote_code` is off) and no pickle is read (safetensors only).

C captions, W tokens of a caption, H width of the encoder, D joint width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from shan_model.config import ModelConfig
from shan_model.encoders import TextEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

AT_ONCE = 128
"""Captions that go through the encoder together: what a pass holds is then bounded however many are asked for."""

LONGEST = 4096
"""Tokens that are kept where neither tokenizer nor model states a limit."""


class HuggingFaceEncoder(TextEncoder):
    """t_j = W h_j + b of the last hidden states h_j, L2-normalised [D]; Xavier-uniform weight, zero bias [D].

    The tokenizer's marks of start and end stay, as `<start>` and `<end>` do, and what is longer than the encoder can
    read is cut. In training the encoder's own dropout is on: every encoding of a caption is another draw. A step
    encodes a caption once, and mining and loss both take that encoding, so the loss stays exact.
    """

    def __init__(self, config: ModelConfig, files: Path | None = None) -> None:
        """With `files`, built from there without weights or network; else pretrained, from `config.hf_model`.

        ValueError if transformers is missing or the model is none that can serve.
        """
        super().__init__()
        self.normalize = config.normalize
        try:
            self.tokenizer, self.encoder = _pretrained(config.hf_model) if files is None else _saved(files)
        except ImportError as error:
            raise ValueError(
                "model.text_encoder hf needs the package transformers: pip install 'shan-line[hf]'"
            ) from error
        except OSError as error:  # what transformers raises for files that are not there or not to be used
            raise ValueError(
                f"model.hf_model {files or config.hf_model!r} cannot be loaded; it must be a folder, or a name on the "
                f"hub, with config.json, model.safetensors and a tokenizer: {' '.join(str(error).split())}"
            ) from error
        _refuse_what_cannot_serve(config.hf_model, self.tokenizer, self.encoder)
        self.limit = min(self.tokenizer.model_max_length, LONGEST, *_positions(self.encoder))
        self.project = nn.Linear(self.encoder.config.hidden_size, config.joint_dim)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, captions: Sequence[str]) -> list[Tensor]:
        """C sentences to C matrices W_c x D."""
        encoded: list[Tensor] = []
        for top in range(0, len(captions), AT_ONCE):
            encoded += self._some(captions[top : top + AT_ONCE])
        return encoded

    def tokens(self, caption: str) -> list[str]:
        """The pieces that the tokenizer cuts the sentence into, its special tokens included."""
        pieces: list[str] = self.tokenizer.convert_ids_to_tokens(self._ids([caption])[0])
        return pieces

    def save_files(self, folder: Path) -> None:
        """The encoder's config and tokenizer, no weights."""
        self.encoder.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _ids(self, captions: Sequence[str]) -> list[list[int]]:
        sound = [caption.encode(errors="replace").decode() for caption in captions]  # half a surrogate pair is no text
        ids: list[list[int]] = self.tokenizer(sound, truncation=True, max_length=self.limit)["input_ids"]
        return ids

    def _some(self, captions: Sequence[str]) -> list[Tensor]:
        ids = [torch.tensor(i, device=self.project.weight.device) for i in self._ids(captions)]
        # Where the mask is 0 no token looks, so what stands there is all one; it must only be in the table.
        padded_CW = pad_sequence(ids, batch_first=True, padding_value=self.tokenizer.pad_token_id or 0)
        mask_CW = pad_sequence([torch.ones_like(i) for i in ids], batch_first=True)
        hidden_CWH = self.encoder(input_ids=padded_CW, attention_mask=mask_CW).last_hidden_state
        words_CWD = self.project(hidden_CWH)
        if self.normalize:
            words_CWD = functional.normalize(words_CWD, dim=-1)
        return [words_WD[: len(i)] for words_WD, i in zip(words_CWD, ids, strict=True)]


def _pretrained(name: str) -> "tuple[PreTrainedTokenizerBase, PreTrainedModel]":
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    encoder, found = AutoModel.from_pretrained(
        name, trust_remote_code=False, use_safetensors=True, output_loading_info=True
    )
    missing = sorted(key for key in found["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ValueError(f"the weights of model.hf_model {name!r} lack {len(missing)} tensors, as {missing[0]}")
    return tokenizer, _fit_for_training(encoder)


def _saved(files: Path) -> "tuple[PreTrainedTokenizerBase, PreTrainedModel]":
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    if not files.is_dir():  # a path that is not there would be taken for a name on the hub
        raise FileNotFoundError(f"no folder {files}")
    tokenizer = AutoTokenizer.from_pretrained(files, trust_remote_code=False, local_files_only=True)
    config = AutoConfig.from_pretrained(files, trust_remote_code=False, local_files_only=True)
    return tokenizer, _fit_for_training(AutoModel.from_config(config, trust_remote_code=False))


def _fit_for_training(encoder: "PreTrainedModel") -> "PreTrainedModel":
    """In float32, and without the pooler of sentences, which nobody asks: DDP would wait for its gradients."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder.float()


def _refuse_what_cannot_serve(name: str, tokenizer: "PreTrainedTokenizerBase", encoder: "PreTrainedModel") -> None:
    if encoder.config.is_encoder_decoder or not hasattr(encoder.config, "hidden_size"):
        kind = encoder.config.model_type
        raise ValueError(f"model.hf_model {name!r} is a {kind}, no plain text encoder; take one like BERT or RoBERTa")
    if not tokenizer.is_fast:
        raise ValueError(f"model.hf_model {name!r} has no tokenizer.json; save its fast tokenizer beside the model")
    if len(tokenizer("")["input_ids"]) < 2:
        raise ValueError(
            f"the tokenizer of model.hf_model {name!r} does not mark start and end of a text, so that an empty one "
            "would have no words; take an encoder like BERT or RoBERTa"
        )


def _positions(encoder: nn.Module) -> list[int]:
    """How many tokens each table of positions serves; where one has a place for padding, counting begins behind it."""
    return [
        table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
        for name, table in encoder.named_modules()
        if isinstance(table, nn.Embedding) and "position" in name
    ]
