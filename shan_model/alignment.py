"""Reference implementation of step-wise hierarchical alignment (SHAN, IJCAI 2021, Eq. 3 to 16).

Scores a block of photos against one caption at a time, equation by equation. It is the readable definition of the
model and the oracle that the batched implementation (`batched_alignment.py`) is tested against. Both take the same
parameters and the same call: regions B x R x D and a list of words W_c x D in, scores B x C out.

Cross-attention runs in both directions: the regions of a photo query the words of a caption, and the words query the
regions. Both directions compute the same three steps, so one `Branch` class serves both.

Shapes: B photos, C captions, R regions, W words of a caption, D joint width, N items that query (regions or words),
M items that are attended (words or regions).
"""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from shan_model.config import ModelConfig


class BranchOutput(NamedTuple):
    """Global vectors of one modality: its own context and what that context attends to in the other modality."""

    context_BD: Tensor  # v_c or t_c, Eq. 9
    attended_BD: Tensor  # t*_c or v*_c, Eq. 10 and 11


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Returns the cosine similarity over the last axis, which is 0 where a vector is 0.

    torch's own function is not used because it first normalises both tensors in full.
    """
    norms = torch.linalg.vector_norm(x, dim=-1) * torch.linalg.vector_norm(y, dim=-1)
    return torch.linalg.vecdot(x, y) / norms.clamp(min=1e-8)


class Branch(nn.Module):
    """Gated fusion and attention pooling of one modality (Eq. 8, 9), and its attention to the other (Eq. 10, 11)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.temperature = config.context_temperature
        self.gates = 2 if config.gate_per_level and "g2g" in config.levels else 1
        width = config.joint_dim if config.gate == "vector" else 1
        self.gate = nn.Linear(2 * config.joint_dim, self.gates * width)
        self.pool = nn.Linear(config.joint_dim, 1, bias=False)
        for weight in self.gate.weight.chunk(self.gates):
            nn.init.xavier_uniform_(weight)
        nn.init.zeros_(self.gate.bias)
        nn.init.xavier_uniform_(self.pool.weight)

    def forward(self, local_BND: Tensor, attended_BND: Tensor, other_BMD: Tensor) -> list[BranchOutput]:
        """Fuses each item with the vector it attended to, pools the items, and attends to the other modality.

        `local_BND` are the items of this modality, `attended_BND` their attended vectors (Eq. 4 or 5), `other_BMD` the
        items of the other modality. Returns the output for each gate: one for both levels, or one for each.
        """
        logits = self.gate(torch.cat([local_BND, attended_BND], dim=-1)).chunk(self.gates, dim=-1)
        return [self._output(torch.sigmoid(gate_BND), local_BND, attended_BND, other_BMD) for gate_BND in logits]

    def _output(self, gate_BND: Tensor, local_BND: Tensor, attended_BND: Tensor, other_BMD: Tensor) -> BranchOutput:
        fused_BND = gate_BND * local_BND + (1 - gate_BND) * attended_BND
        context_BD = (self.pool(fused_BND).softmax(dim=1) * fused_BND).sum(dim=1)
        weight_BM = (self.temperature * cosine(context_BD[:, None], other_BMD)).softmax(dim=-1)
        return BranchOutput(context_BD, torch.einsum("bm,bmd->bd", weight_BM, other_BMD))


class Alignment(nn.Module):
    """Scores S(I, T) of Eq. 16 for blocks of photos and captions, with the paper's variants and level switches."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.regions_query = config.variant in ("full", "i2t")
        self.words_query = config.variant in ("full", "t2i")
        self.project_regions = nn.Linear(config.joint_dim, config.joint_dim, bias=False)
        self.project_words = nn.Linear(config.joint_dim, config.joint_dim, bias=False)
        initialise = nn.init.eye_ if config.affinity_init == "identity" else nn.init.xavier_uniform_
        for linear in (self.project_regions, self.project_words):
            initialise(linear.weight)
        # A disabled step owns no parameters: DDP would wait for gradients that are never computed.
        if "g2l" in config.levels and self.regions_query:
            self.image_branch = Branch(config)
        if "g2l" in config.levels and self.words_query:
            self.text_branch = Branch(config)

    def forward(self, regions_BRD: Tensor, words: Sequence[Tensor]) -> Tensor:
        """Returns scores B x C of B photos with C captions; `words[c]` is W_c x D, without padding."""
        queries_BRD = self.project_regions(regions_BRD)
        scores = [reduce(torch.add, self._levels(regions_BRD, queries_BRD, words_WD).values()) for words_WD in words]
        return torch.stack(scores, dim=1)

    def level_scores(self, regions_BRD: Tensor, words_WD: Tensor) -> dict[str, Tensor]:
        """Returns the scores (B) of each enabled level with one caption: S_L2L, S_G2L, S_G2G (Eq. 7, 13, 15).

        They are scaled, so that their sum is the score.
        """
        return self._levels(regions_BRD, self.project_regions(regions_BRD), words_WD)

    def word_attention(self, regions_BRD: Tensor, words_WD: Tensor) -> Tensor:
        """Returns beta of Eq. 5, B x R x W: the attention of each word to the regions (sums to 1 over R)."""
        return self._logits(self.project_regions(regions_BRD), words_WD).softmax(dim=1)

    def _levels(self, regions_BRD: Tensor, queries_BRD: Tensor, words_WD: Tensor) -> dict[str, Tensor]:
        """Returns the scaled scores (B) of one caption on each enabled level; their sum is Eq. 16."""
        words_BWD = words_WD.expand(len(regions_BRD), -1, -1)
        logits_BRW = self._logits(queries_BRD, words_WD)
        text_BRD = logits_BRW.softmax(dim=2) @ words_BWD  # t*_i, Eq. 4
        image_BWD = logits_BRW.softmax(dim=1).transpose(1, 2) @ regions_BRD  # v*_j, Eq. 5
        levels = {"S_L2L": self._local_to_local(regions_BRD, text_BRD, words_BWD, image_BWD)}
        if "g2l" in self.config.levels:
            image = self.image_branch(regions_BRD, text_BRD, words_BWD) if self.regions_query else [None]
            text = self.text_branch(words_BWD, image_BWD, regions_BRD) if self.words_query else [None]
            levels["S_G2L"] = self.config.g2l_scale * self._global_to_local(image[0], text[0])
            if "g2g" in self.config.levels:
                g2g = self._global_to_global(image[-1], text[-1], regions_BRD, words_BWD)
                levels["S_G2G"] = self.config.g2g_scale * g2g
        return levels

    def _logits(self, queries_BRD: Tensor, words_WD: Tensor) -> Tensor:
        """Returns lambda A (B x R x W), where A = (V W~_v^T)(T W~_t^T)^T (Eq. 3)."""
        keys_WD = self.project_words(words_WD)
        if self.config.affinity == "cosine":
            queries_BRD, keys_WD = functional.normalize(queries_BRD, dim=-1), functional.normalize(keys_WD, dim=-1)
        return self.config.temperature * (queries_BRD @ keys_WD.T)

    def _local_to_local(self, regions_BRD: Tensor, text_BRD: Tensor, words_BWD: Tensor, image_BWD: Tensor) -> Tensor:
        """Returns S_L2L (B), Eq. 6 and 7."""
        pool = torch.mean if self.config.l2l_pooling == "mean" else torch.sum
        by_regions_B = pool(cosine(regions_BRD, text_BRD), dim=-1) if self.regions_query else None
        by_words_B = pool(cosine(words_BWD, image_BWD), dim=-1) if self.words_query else None
        return weighted(by_regions_B, by_words_B, self.config.l2l_weight)

    def _global_to_local(self, image: BranchOutput | None, text: BranchOutput | None) -> Tensor:
        """Returns S_G2L (B), Eq. 12 and 13."""
        return weighted(image and cosine(*image), text and cosine(*text), self.config.g2l_weight)

    def _global_to_global(
        self, image: BranchOutput | None, text: BranchOutput | None, regions_BRD: Tensor, words_BWD: Tensor
    ) -> Tensor:
        """Returns S_G2G (B), Eq. 14 and 15. A modality without a branch is represented by its mean local vector."""
        image_BD = image.context_BD + image.attended_BD if image else regions_BRD.mean(dim=-2)
        text_BD = text.context_BD + text.attended_BD if text else words_BWD.mean(dim=-2)
        return cosine(image_BD, text_BD)


def weighted(by_regions_B: Tensor | None, by_words_B: Tensor | None, weight: float) -> Tensor:
    """Returns weight * by_regions + (1 - weight) * by_words.

    If one of the two is None (one-directional variants), the other gets weight 1 (not stated in the paper).
    """
    if by_regions_B is None:
        assert by_words_B is not None
        return by_words_B
    if by_words_B is None:
        return by_regions_B
    return weight * by_regions_B + (1 - weight) * by_words_B
