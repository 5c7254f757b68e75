"""The two encoders: regions and words into one space of width D.

B images, R regions, F feature width, C captions, W words of a caption, D joint width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from shan_model.config import ModelConfig


class ImageEncoder(nn.Module):
    """Eq. 1: v_i = W_v o_i + b_v, then L2-normalised [D]. Xavier-uniform weight, zero bias [D]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.normalize = config.normalize
        self.project = nn.Linear(config.region_dim, config.joint_dim)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, regions_BRF: Tensor) -> Tensor:
        """Regions B x R x F to B x R x D."""
        regions_BRD = self.project(regions_BRF)
        return functional.normalize(regions_BRD, dim=-1) if self.normalize else regions_BRD


class TextEncoder(nn.Module):
    """Eq. 2: embedding, one bidirectional GRU, t_j = (forward_j + backward_j) / 2, L2-normalised [D].

    The learnable half alone feeds the GRU (the paper's own ablation); it starts uniform in [-0.1, 0.1] [D].
    """

    def __init__(self, vocabulary_size: int, config: ModelConfig) -> None:
        super().__init__()
        self.normalize = config.normalize
        self.embedding = nn.Embedding(vocabulary_size, config.word_dim)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.gru = nn.GRU(config.word_dim, config.joint_dim, config.gru_layers, batch_first=True, bidirectional=True)

    def forward(self, token_ids: Sequence[Tensor]) -> list[Tensor]:
        """C id vectors of true lengths W_c to C matrices W_c x D: padding is gone before anyone can see it."""
        lengths = torch.tensor([len(ids) for ids in token_ids])
        padded_CWE = self.embedding(pad_sequence(list(token_ids), batch_first=True))
        packed = pack_padded_sequence(padded_CWE, lengths, batch_first=True, enforce_sorted=False)
        hidden_CW2D, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        forward_CWD, backward_CWD = hidden_CW2D.chunk(2, dim=-1)
        words_CWD = (forward_CWD + backward_CWD) / 2
        if self.normalize:
            words_CWD = functional.normalize(words_CWD, dim=-1)
        return [words_WD[:length] for words_WD, length in zip(words_CWD, lengths.tolist(), strict=True)]
