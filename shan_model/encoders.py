"""The paper's encoders: they map regions and words into a joint space of width D.

Shapes: B photos, R regions, F feature width, C captions, W words of a caption, V words of the vocabulary, E width of a
word vector, D joint width.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from shan_model.config import ModelConfig
from shan_model.ragged import Ragged
from shan_model.vocabulary import END, START, Vocabulary, tokenize


class ImageEncoder(nn.Module):
    """Eq. 1: v_i = W_v o_i + b_v.

    The L2 normalisation, the Xavier-uniform weight and the zero bias are not stated in the paper.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.normalize = config.normalize
        self.project = nn.Linear(config.region_dim, config.joint_dim)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, regions_BRF: Tensor) -> Tensor:
        """Encodes regions B x R x F to B x R x D."""
        regions_BRD = self.project(regions_BRF)
        return functional.normalize(regions_BRD, dim=-1) if self.normalize else regions_BRD


class TextEncoder(nn.Module):
    """Interface of the text encoders: sentences in, word features out."""

    @abstractmethod
    def forward(self, captions: Sequence[str]) -> Sequence[Tensor]:
        """Encodes C sentences to C matrices W_c x D without padding; W_c >= 1 even if the sentence is empty."""

    @abstractmethod
    def tokens(self, caption: str) -> list[str]:
        """Returns the token of each of the W_c rows of a sentence, including its start and end tokens."""

    @abstractmethod
    def known(self, caption: str) -> list[bool]:
        """Returns for each of these tokens whether it is in the vocabulary; all others are encoded as one token."""

    def save_files(self, folder: Path) -> None:
        """Writes the files, if any, that rebuilding the encoder needs besides config, vocabulary and weights."""


class GruEncoder(TextEncoder):
    """Eq. 2: word vectors and a bidirectional GRU, t_j = (forward_j + backward_j) / 2.

    A word vector is [fixed ; learnable]: a pretrained vector that is not trained (`set_fixed`), and an embedding. With
    `fixed_word_dim` 0 the embedding alone feeds the GRU (the paper's own ablation). Not stated in the paper: the
    embedding starts uniform in [-0.1, 0.1], t_j is L2-normalised, and captions are enclosed in `<start>` and `<end>`.
    """

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.normalize, self.vocabulary = config.normalize, vocabulary
        self.embedding = nn.Embedding(len(vocabulary), config.word_dim)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.fixed: Tensor | None
        fixed_VE = torch.zeros(len(vocabulary), config.fixed_word_dim) if config.fixed_word_dim else None
        self.register_buffer("fixed", fixed_VE)
        width = config.fixed_word_dim + config.word_dim
        self.gru = nn.GRU(width, config.joint_dim, config.gru_layers, batch_first=True, bidirectional=True)

    def set_fixed(self, vectors_VE: NDArray[np.float32]) -> None:
        """Sets the pretrained vectors of the vocabulary's words (word_vectors.py); ValueError if the shape differs."""
        shape = (len(self.vocabulary), 0) if self.fixed is None else tuple(self.fixed.shape)
        if vectors_VE.shape != shape:
            raise ValueError(
                f"the word vectors have shape {vectors_VE.shape}, expected {shape}; "
                "set model.fixed_word_dim to the width of the vectors in the file"
            )
        self.fixed = torch.from_numpy(vectors_VE).to(self.embedding.weight)

    def forward(self, captions: Sequence[str]) -> Ragged:
        """Encodes C sentences to C matrices W_c x D."""
        token_ids = [torch.tensor(self.vocabulary.encode(caption)) for caption in captions]
        ids_CW, lengths = pad_sequence(token_ids, batch_first=True), [len(ids) for ids in token_ids]
        padded_CWE = self._vectors(ids_CW.to(self.embedding.weight.device))
        packed = pack_padded_sequence(padded_CWE, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
        hidden_CW2D, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        forward_CWD, backward_CWD = hidden_CW2D.chunk(2, dim=-1)
        words_CWD = (forward_CWD + backward_CWD) / 2
        if self.normalize:
            words_CWD = functional.normalize(words_CWD, dim=-1)
        longest = words_CWD.shape[1]
        return Ragged(words_CWD.flatten(0, 1), list(range(0, longest * len(lengths), longest)), lengths)

    def tokens(self, caption: str) -> list[str]:
        """Returns `<start>`, the words (in the vocabulary or not), `<end>`."""
        return [START, *tokenize(caption), END]

    def known(self, caption: str) -> list[bool]:
        """Returns whether each of these tokens is in the vocabulary."""
        return [token in self.vocabulary for token in self.tokens(caption)]

    def _vectors(self, ids_CW: Tensor) -> Tensor:
        learnable_CWE = self.embedding(ids_CW)
        return learnable_CWE if self.fixed is None else torch.cat([self.fixed[ids_CW], learnable_CWE], dim=-1)
