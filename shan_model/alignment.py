"""Step-wise hierarchical alignment, the reference implementation: every image of a block against one caption at a time.

This file is the readable definition (SHAN, IJCAI 2021, Eq. 3 to 16) and the oracle for faster forms, which take
its parameters and its call: regions B x R x D and a list of W_c x D in, scores B x C out.

A photo's regions query the words and a caption's words query the regions; both sides do the same three things,
so one `Branch` serves both. `N` stands for the items that query (regions or words), `M` for those that answer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from shan_model.config import ModelConfig


class Context(NamedTuple):
    """What the global step knows of one side of a pair: its own context and what it drew from the other side."""

    own_BD: Tensor  # v_c or t_c, Eq. 9
    other_BD: Tensor  # t*_c or v*_c, Eq. 10 and 11


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosine over the last axis; 0 where a vector is 0. (torch's own normalises both tensors in full first.)"""
    norms = torch.linalg.vector_norm(x, dim=-1) * torch.linalg.vector_norm(y, dim=-1)
    return torch.linalg.vecdot(x, y) / norms.clamp(min=1e-8)


class Branch(nn.Module):
    """Gate and pooling of one modality (Eq. 8, 9) and its look at the other one (Eq. 10, 11)."""

    def __init__(self, joint_dim: int, gate: str) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * joint_dim, joint_dim if gate == "vector" else 1)
        self.pool = nn.Linear(joint_dim, 1, bias=False)
        nn.init.xavier_uniform_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        nn.init.xavier_uniform_(self.pool.weight)

    def forward(self, local_BND: Tensor, attended_BND: Tensor, other_BMD: Tensor) -> Context:
        """Fuses every item with what it attended, pools the items, and lets the pooled vector attend the other side."""
        gate_BND = torch.sigmoid(self.gate(torch.cat([local_BND, attended_BND], dim=-1)))
        fused_BND = gate_BND * local_BND + (1 - gate_BND) * attended_BND
        own_BD = (self.pool(fused_BND).softmax(dim=1) * fused_BND).sum(dim=1)
        weight_BM = cosine(own_BD[:, None], other_BMD).softmax(dim=-1)
        return Context(own_BD, torch.einsum("bm,bmd->bd", weight_BM, other_BMD))


class Alignment(nn.Module):
    """Scores S(I, T) of Eq. 16 for blocks of images and captions, with the paper's variants and level switches."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.regions_query = config.variant in ("full", "i2t")
        self.words_query = config.variant in ("full", "t2i")
        self.project_regions = nn.Linear(config.joint_dim, config.joint_dim, bias=False)
        self.project_words = nn.Linear(config.joint_dim, config.joint_dim, bias=False)
        for linear in (self.project_regions, self.project_words):
            nn.init.xavier_uniform_(linear.weight)
        # A switched-off step owns no parameters: DDP would wait for gradients that never come.
        if "g2l" in config.levels and self.regions_query:
            self.image_branch = Branch(config.joint_dim, config.gate)
        if "g2l" in config.levels and self.words_query:
            self.text_branch = Branch(config.joint_dim, config.gate)

    def forward(self, regions_BRD: Tensor, words: Sequence[Tensor]) -> Tensor:
        """Scores B x C of B images with C captions; `words[c]` is W_c x D at its true length."""
        queries_BRD = self.project_regions(regions_BRD)
        return torch.stack([self._score_caption(regions_BRD, queries_BRD, words_WD) for words_WD in words], dim=1)

    def word_attention(self, regions_BRD: Tensor, words_WD: Tensor) -> Tensor:
        """beta of Eq. 5, B x R x W: how each word of a caption spreads over the regions (1 over R)."""
        return self._logits(self.project_regions(regions_BRD), words_WD).softmax(dim=1)

    def _score_caption(self, regions_BRD: Tensor, queries_BRD: Tensor, words_WD: Tensor) -> Tensor:
        """Eq. 16 for one caption: the sum of the levels that are switched on, length B."""
        words_BWD = words_WD.expand(len(regions_BRD), -1, -1)
        logits_BRW = self._logits(queries_BRD, words_WD)
        text_BRD = logits_BRW.softmax(dim=2) @ words_BWD  # t*_i, Eq. 4
        image_BWD = logits_BRW.softmax(dim=1).transpose(1, 2) @ regions_BRD  # v*_j, Eq. 5
        score_B = self._local_to_local(regions_BRD, text_BRD, words_BWD, image_BWD)
        if "g2l" in self.config.levels:
            image = self.image_branch(regions_BRD, text_BRD, words_BWD) if self.regions_query else None
            text = self.text_branch(words_BWD, image_BWD, regions_BRD) if self.words_query else None
            score_B = score_B + self._global_to_local(image, text)
            if "g2g" in self.config.levels:
                score_B = score_B + self._global_to_global(image, text, regions_BRD, words_BWD)
        return score_B

    def _logits(self, queries_BRD: Tensor, words_WD: Tensor) -> Tensor:
        """lambda A, where A = (V W~_v^T)(T W~_t^T)^T (Eq. 3), B x R x W."""
        keys_WD = self.project_words(words_WD)
        if self.config.affinity == "cosine":
            queries_BRD, keys_WD = functional.normalize(queries_BRD, dim=-1), functional.normalize(keys_WD, dim=-1)
        return self.config.temperature * (queries_BRD @ keys_WD.T)

    def _local_to_local(self, regions_BRD: Tensor, text_BRD: Tensor, words_BWD: Tensor, image_BWD: Tensor) -> Tensor:
        """Eq. 6 and 7, length B."""
        pool = torch.mean if self.config.l2l_pooling == "mean" else torch.sum
        by_regions_B = pool(cosine(regions_BRD, text_BRD), dim=-1) if self.regions_query else None
        by_words_B = pool(cosine(words_BWD, image_BWD), dim=-1) if self.words_query else None
        return weighted(by_regions_B, by_words_B, self.config.l2l_weight)

    def _global_to_local(self, image: Context | None, text: Context | None) -> Tensor:
        """Eq. 12 and 13, length B."""
        return weighted(image and cosine(*image), text and cosine(*text), self.config.g2l_weight)

    def _global_to_global(
        self, image: Context | None, text: Context | None, regions_BRD: Tensor, words_BWD: Tensor
    ) -> Tensor:
        """Eq. 14 and 15, length B; the side without a branch is the mean of its local vectors."""
        image_BD = image.own_BD + image.other_BD if image else regions_BRD.mean(dim=-2)
        text_BD = text.own_BD + text.other_BD if text else words_BWD.mean(dim=-2)
        return cosine(image_BD, text_BD)


def weighted(by_regions_B: Tensor | None, by_words_B: Tensor | None, weight: float) -> Tensor:
    """weight * regions + (1 - weight) * words; in a one-direction variant the remaining term has weight 1 [D]."""
    if by_regions_B is None:
        assert by_words_B is not None
        return by_words_B
    if by_words_B is None:
        return by_regions_B
    return weight * by_regions_B + (1 - weight) * by_words_B
