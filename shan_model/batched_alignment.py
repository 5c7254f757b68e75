"""SHAN's alignment in batched implementation: the numbers of `alignment.py` by identities that move work from pairs to items.

Per item once: projections, both halves of the gates, norms, Gram matrices. Per pair: affinities and dot products from
dense products of whole blocks; cosines with attended vectors from them and the Gram matrices, as
own . attended = sum_m weights_nm (own_n . other_m) and |attended|^2 = weights_n Gram weights_n; the gate's mix and
sigmoid (`gate_fuse_pool`); steps 2 and 3 on one vector a pair. With a scalar gate nothing per pair is as wide as D but
that one vector.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from shan_model import native
from shan_model.alignment import Alignment, Branch, cosine, weighted
from shan_model.attention import Attended, Letters, attend, over_pairs
from shan_model.batched_matcher import BatchedMatcher, Pairing, dot_products
from shan_model.gate_fuse_pool import gate_fuse_pool


class Side(NamedTuple):
    """K photos or captions of N vectors each, with all that their scores need and no partner changes."""

    local: Tensor
    """K x N x D: v_i or t_j."""
    norms: Tensor
    """K x N."""
    gram: Tensor
    """K x N x N: dot products among them."""
    key: Tensor
    """K x N x D: the projection of Eq. 3, times lambda on the photos' side."""
    own_pool: Tensor
    """K x N: w^ . own of Eq. 9 in the branch where these vectors query; K x 0 where there is none."""
    answer_pool: Tensor
    """K x N: the same in the branch where they answer; K x 0 where there is none."""
    channels: Tensor
    """K x N x D: `local` for the vector gate, in `native.panels` where those serve; K x 0 where nothing asks for it."""
    own_gate: Tensor
    """W_g1 own + b_g of Eq. 8, laid out like `channels` (scalar gate: K x N x 1)."""
    answer_gate: Tensor
    """W_g2 own of the other side's gate, likewise."""


class BatchedAlignment(BatchedMatcher, Alignment):
    """Scores of Eq. 16 for whole blocks or lists of pairs, exact to `Alignment`, whose parameters it has."""

    def prepare_photos(self, regions_KRD: Tensor) -> Side:
        """K photos of R regions."""
        queries_KRD = self._keys(self.project_regions(regions_KRD)) * self.config.temperature
        return self._prepare(regions_KRD, queries_KRD, self._branch("image"), self._branch("text"))

    def prepare_captions(self, words_KWD: Tensor) -> Side:
        """K captions of W words."""
        keys_KWD = self._keys(self.project_words(words_KWD))
        return self._prepare(words_KWD, keys_KWD, self._branch("text"), self._branch("image"))

    def score_pairs(self, photos: Side, captions: Side, by: Pairing, products: torch.dtype | None = None) -> Tensor:
        """Eq. 16: the sum of the levels that are switched on."""
        i, c, p = by
        logits = dot_products(photos.key, captions.key, by, products)
        dots = dot_products(photos.local, captions.local, by, products)
        directions: list[Direction | None] = [None, None]
        if self.regions_query:  # alpha of Eq. 4
            directions[0] = self._direction("image", photos, captions, logits, dots, (i, c, p))
        if self.words_query:  # beta of Eq. 5
            turned = logits.transpose(-1, -2), dots.transpose(-1, -2)
            directions[1] = self._direction("text", captions, photos, *turned, (c, i, p))
        image, text = directions
        scores = weighted(image and image.local, text and text.local, self.config.l2l_weight)
        if "g2l" in self.config.levels:
            scores = scores + weighted(image and image.context, text and text.context, self.config.g2l_weight)
        if "g2g" in self.config.levels:
            image_global = image.globals if image else by.photos(photos.local.mean(dim=1))
            text_global = text.globals if text else by.captions(captions.local.mean(dim=1))
            scores = scores + cosine(image_global, text_global)
        return scores

    def _keys(self, projected_KND: Tensor) -> Tensor:
        return functional.normalize(projected_KND, dim=-1) if self.config.affinity == "cosine" else projected_KND

    def _branch(self, name: str) -> Branch | None:
        branch: Branch | None = getattr(self, f"{name}_branch", None)
        return branch

    def _prepare(self, local_KND: Tensor, key_KND: Tensor, own: Branch | None, other: Branch | None) -> Side:
        """`own` is the branch in which these vectors query, `other` the one in which they answer."""
        width, vector = self.config.joint_dim, self.config.gate == "vector"
        arrange = native.panels if vector and native.usable(local_KND) else nn.Identity()
        absent = local_KND.new_empty(len(local_KND), 0)
        return Side(
            local=local_KND,
            norms=torch.linalg.vector_norm(local_KND, dim=-1),
            gram=local_KND @ local_KND.transpose(1, 2),
            key=key_KND,
            own_pool=local_KND @ own.pool.weight[0] if own else absent,
            answer_pool=local_KND @ other.pool.weight[0] if other else absent,
            channels=arrange(local_KND) if vector and (own or other) else absent,
            own_gate=arrange(functional.linear(local_KND, own.gate.weight[:, :width], own.gate.bias))
            if own
            else absent,
            answer_gate=arrange(functional.linear(local_KND, other.gate.weight[:, width:])) if other else absent,
        )

    def _direction(
        self, name: str, own: Side, other: Side, logits: Tensor, dots: Tensor, letters: Letters
    ) -> "Direction":
        """What one side's queries add to the steps, Eq. 6 to 14; steps that are switched off stay empty."""
        branch = self._branch(name)
        values = other.answer_pool if branch else other.norms  # without a branch nobody asks for sums
        attended = attend(own.norms, other.gram, values, logits, dots, letters)
        local = attended.cosines.mean(dim=-1) if self.config.l2l_pooling == "mean" else attended.cosines.sum(dim=-1)
        if branch is None:
            return Direction(local, local.new_empty(0), local.new_empty(0))
        pool_D = branch.pool.weight[0]
        if own.channels.dim() == 4:
            channels = own.channels, own.own_gate, other.channels, other.answer_gate
            more = other.norms, attended.weights, attended.sums, pool_D
            return Direction(local, *native.context(*channels, *more, query_axis=_own_axis(letters)))
        if self.config.gate == "scalar":
            context = _scalar_context(own, other, attended, letters)
        else:
            context = _vector_context(pool_D, own, other, attended, letters)
        _, x, p = letters
        lengths = torch.linalg.vector_norm(context, dim=-1)[..., None] * over_pairs(other.norms, (x, x, p))
        cosines = torch.einsum(f"{p}d,{x}md->{p}m", context, other.local) / lengths.clamp(min=1e-8)
        answer = torch.einsum(f"{p}m,{x}md->{p}d", cosines.softmax(dim=-1), other.local)
        return Direction(local, cosine(context, answer), context + answer)


class Direction(NamedTuple):
    """What one side's queries add to the three steps."""

    local: Tensor
    """pairs: pooled cosines of Eq. 6."""
    context: Tensor
    """pairs: cosine of Eq. 12."""
    globals: Tensor
    """pairs x D: the global vector of Eq. 14."""


def _own_axis(letters: Letters) -> int | None:
    """Where the own items stand among the axes of a block's pairs; None in a list."""
    o, _, p = letters
    return p.index(o) if len(p) == 2 else None


def _vector_context(pool_D: Tensor, own: Side, other: Side, attended: Attended, letters: Letters) -> Tensor:
    """v_c or t_c of Eq. 9, pairs x D."""
    _, x, p = letters
    arrays = own.channels, own.own_gate, other.channels, other.answer_gate
    gated, gamma = gate_fuse_pool(*arrays, attended.weights, attended.sums, pool_D, query_axis=_own_axis(letters))
    mixed = torch.einsum(f"{p}n,{p}nm->{p}m", gamma, attended.weights)
    return gated + torch.einsum(f"{p}m,{x}md->{p}d", mixed, other.local)


def _scalar_context(own: Side, other: Side, attended: Attended, letters: Letters) -> Tensor:
    """The same where one gate value serves all channels: two short sums over items, nothing N x D."""
    o, x, p = letters
    mixed = torch.einsum(f"{p}nm,{x}m->{p}n", attended.weights, other.answer_gate[..., 0])
    gate = torch.sigmoid(mixed + over_pairs(own.own_gate[..., 0], letters))
    gamma = (gate * over_pairs(own.own_pool, letters) + (1 - gate) * attended.sums).softmax(dim=-1)
    kept = torch.einsum(f"{p}n,{o}nd->{p}d", gamma * gate, own.local)
    mixed = torch.einsum(f"{p}n,{p}nm->{p}m", gamma * (1 - gate), attended.weights)
    return kept + torch.einsum(f"{p}m,{x}md->{p}d", mixed, other.local)
