"""Batched implementation of SHAN's alignment: the scores of `alignment.py`, computed for all pairs of a block at once.

The order of the arithmetic differs from the reference implementation, the result does not (tests: 1e-10 in float64,
1e-5 in float32). Work moves from pairs to items:

- Once per item: projections, both linear parts of the gates, norms, Gram matrices.
- Per block: affinities (Eq. 3) and dot products as two dense matrix products.
- Per pair: the cosines of Eq. 6 without any attended vector (`attention.py`); the gate, whose linear part only has to
  be mixed (`gate_fuse_pool.py`); steps 2 and 3 on one vector per pair. With a scalar gate, that vector is the only
  tensor of width D per pair.

On a CPU without gradients the native implementation (`native.py`) computes the same.

Shapes: K query items of N vectors, L key items of M vectors, D joint width, R regions, W words; `pairs` stands for the
leading axes of the pairs. Items that query are called query items, those that are attended key items.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from shan_model import native
from shan_model.alignment import Alignment, Branch, cosine, weighted
from shan_model.attention import Attended, attend
from shan_model.batched_matcher import BatchedMatcher, Pairing, dot_products
from shan_model.finite import largest_magnitude
from shan_model.gate_fuse_pool import gate_fuse_pool
from shan_model.padding import Subscripts, hide, mean_over_pairs, mean_vectors, over_pairs


class AlignmentItems(NamedTuple):
    """Everything that the scores of K photos or captions of N vectors need and that depends on no partner."""

    local: Tensor
    """K x N x D: v_i or t_j."""
    norms: Tensor
    """K x N: norms of `local`."""
    gram: Tensor
    """K x N x N: dot products of an item's vectors with each other."""
    projected: Tensor
    """K x N x D: projection of Eq. 3; that of photos is multiplied by lambda."""
    query_pool: Tensor
    """K x N: w^ . local of Eq. 9 in the branch where these vectors query; K x 0 without such a branch."""
    key_pool: Tensor
    """K x N: w^ . local of Eq. 9 in the branch where these vectors are keys; K x 0 without such a branch."""
    channels: Tensor
    """K x N x D: `local` for the vector gate, in `native.panels` where those are used; K x 0 if not needed."""
    query_gate: Tensor
    """K x G x ...: W_g1 local + b_g of Eq. 8 for each of G gates, in the form of `channels` (scalar gate: N x 1)."""
    key_gate: Tensor
    """K x G x ...: W_g2 local of the other modality's gates (Eq. 8), in the form of `channels` (scalar gate: N x 1)."""
    padding: Tensor
    """K x N: see `padding.py`; K x 0 if no item is padded."""
    peak: Tensor
    """K: largest magnitude in `local` and `projected`; NaN for an item with a number above that is not finite, for
    features or weights that are not."""


class DirectionTerms(NamedTuple):
    """Contributions of one direction (regions query words, or words query regions) to the three steps."""

    local: Tensor
    """pairs: pooled cosines of Eq. 6."""
    context: Tensor
    """pairs: cosine of Eq. 12, with the first gate; empty if the step is disabled."""
    globals: Tensor
    """pairs x D: global vector of Eq. 14, with the last gate; empty if the step is disabled."""


class BatchedAlignment(BatchedMatcher, Alignment):
    """Scores of Eq. 16 for blocks or lists of pairs, equal to those of `Alignment`, with the same parameters."""

    def prepare_photos(self, regions_KRD: Tensor, padding_KR: Tensor) -> AlignmentItems:
        """Prepares K photos of R regions."""
        projected_KRD = self._normalized(self.project_regions(regions_KRD)) * self.config.temperature
        return self._prepare(regions_KRD, padding_KR, projected_KRD, self._branch("image"), self._branch("text"))

    def prepare_captions(self, words_KWD: Tensor, padding_KW: Tensor) -> AlignmentItems:
        """Prepares K captions of W words."""
        projected_KWD = self._normalized(self.project_words(words_KWD))
        return self._prepare(words_KWD, padding_KW, projected_KWD, self._branch("text"), self._branch("image"))

    def score_pairs(
        self,
        photos: AlignmentItems,
        captions: AlignmentItems,
        pairing: Pairing,
        matmul_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Returns the scores of the pairs: the sum of the enabled levels (Eq. 16)."""
        photo, caption, pair = pairing
        logits = dot_products(photos.projected, captions.projected, pairing, matmul_dtype)
        dots = dot_products(photos.local, captions.local, pairing, matmul_dtype)
        image = text = None
        if self.regions_query:  # alpha of Eq. 4
            terms = hide(logits, captions.padding, caption, pair), dots
            image = self._direction("image", photos, captions, *terms, (photo, caption, pair), matmul_dtype)
        if self.words_query:  # beta of Eq. 5
            terms = hide(logits.transpose(-1, -2), photos.padding, photo, pair), dots.transpose(-1, -2)
            text = self._direction("text", captions, photos, *terms, (caption, photo, pair), matmul_dtype)
        scores = weighted(image and image.local, text and text.local, self.config.l2l_weight)
        if "g2l" in self.config.levels:
            g2l = weighted(image and image.context, text and text.context, self.config.g2l_weight)
            scores = scores + self.config.g2l_scale * g2l
        if "g2g" in self.config.levels:
            image_global = image.globals if image else pairing.photos(mean_vectors(photos.local, photos.padding))
            text_global = text.globals if text else pairing.captions(mean_vectors(captions.local, captions.padding))
            scores = scores + self.config.g2g_scale * cosine(image_global, text_global)
        # The native implementation assumes finite numbers and may return any score for others. A pair whose dot
        # products may overflow therefore has the score NaN.
        bound = self.config.joint_dim * pairing.photos(photos.peak) * pairing.captions(captions.peak)
        return scores + 0 * bound

    def _normalized(self, projected_KND: Tensor) -> Tensor:
        return functional.normalize(projected_KND, dim=-1) if self.config.affinity == "cosine" else projected_KND

    def _branch(self, name: str) -> Branch | None:
        branch: Branch | None = getattr(self, f"{name}_branch", None)
        return branch

    def _prepare(
        self,
        local_KND: Tensor,
        padding_KN: Tensor,
        projected_KND: Tensor,
        query: Branch | None,
        key: Branch | None,
    ) -> AlignmentItems:
        """Prepares items; `query` is the branch in which they query, `key` the branch in which they are keys."""
        width, vector = self.config.joint_dim, self.config.gate == "vector"
        arrange = native.panels if vector and native.usable(local_KND) else nn.Identity()
        absent = local_KND.new_empty(len(local_KND), 0)

        def gates(branch: Branch, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            of_gates = functional.linear(local_KND, weight, bias).chunk(branch.gates, dim=-1)
            arranged = [arrange(x) for x in of_gates]
            return torch.stack(arranged, dim=1) if len(arranged) > 1 else arranged[0].unsqueeze(1)  # without a copy

        items = {
            "local": local_KND,
            "norms": torch.linalg.vector_norm(local_KND, dim=-1),
            "gram": local_KND @ local_KND.transpose(1, 2),
            "projected": projected_KND,
            "query_pool": local_KND @ query.pool.weight[0] if query else absent,
            "key_pool": local_KND @ key.pool.weight[0] if key else absent,
            "channels": arrange(local_KND) if vector and (query or key) else absent,
            "query_gate": gates(query, query.gate.weight[:, :width], query.gate.bias) if query else absent,
            "key_gate": gates(key, key.gate.weight[:, width:]) if key else absent,
        }
        peak = largest_magnitude([local_KND, projected_KND]) + 0 * largest_magnitude(items.values())
        return AlignmentItems(**items, padding=padding_KN, peak=peak)

    def _direction(
        self,
        name: str,
        query: AlignmentItems,
        key: AlignmentItems,
        logits: Tensor,
        dots: Tensor,
        subscripts: Subscripts,
        matmul_dtype: torch.dtype | None,
    ) -> DirectionTerms:
        """Returns the terms of one direction, Eq. 6 to 14. `logits` and `dots` are pairs x N x M."""
        branch = self._branch(name)
        q, _, p = subscripts
        values = key.key_pool if branch else key.norms  # without a branch the sums are not used
        attended = attend(query.norms, key.gram, values, logits, dots, subscripts)
        if self.config.l2l_pooling == "mean":
            local = mean_over_pairs(attended.cosines, query.padding, q, p)
        else:
            local = attended.cosines.sum(dim=-1)
        if branch is None:
            return DirectionTerms(local, local.new_empty(0), local.new_empty(0))
        contexts = [
            self._context(
                branch.pool.weight[0],
                query._replace(query_gate=query_gate),
                key._replace(key_gate=key_gate),
                attended,
                subscripts,
                matmul_dtype,
            )
            for query_gate, key_gate in zip(query.query_gate.unbind(1), key.key_gate.unbind(1), strict=True)
        ]
        return DirectionTerms(local, contexts[0][0], contexts[-1][1])

    def _context(
        self,
        pool_D: Tensor,
        query: AlignmentItems,
        key: AlignmentItems,
        attended: Attended,
        subscripts: Subscripts,
        matmul_dtype: torch.dtype | None,
    ) -> tuple[Tensor, Tensor]:
        """Returns the cosine of Eq. 12 (pairs) and the global vector of Eq. 14 (pairs x D) of items with one gate."""
        _, x, p = subscripts
        # With the norms of the keys divided by it, a cosine with a key is multiplied by the temperature of Eq. 10, 11.
        norms = key.norms / self.config.context_temperature
        if query.channels.dim() == 4:  # in panels: the native implementation takes over
            channels = query.channels, query.query_gate, key.channels, key.key_gate
            more = norms, attended.weights, attended.sums, pool_D
            return native.context(*channels, *more, query_axis=_query_axis(subscripts))
        if self.config.gate == "scalar":
            context = _scalar_context(query, key, attended, subscripts)
        else:
            context = _vector_context(pool_D, query, key, attended, subscripts, matmul_dtype)
        lengths = torch.linalg.vector_norm(context, dim=-1)[..., None] * over_pairs(norms, (x, x, p))
        logits = torch.einsum(f"{p}d,{x}md->{p}m", context, key.local) / lengths.clamp(min=1e-8)
        weights = hide(logits, key.padding, x, p).softmax(dim=-1)
        attended_by_context = torch.einsum(f"{p}m,{x}md->{p}d", weights, key.local)  # Eq. 10 and 11
        return cosine(context, attended_by_context), context + attended_by_context


def _query_axis(subscripts: Subscripts) -> int | None:
    """Returns the position of the query items among the axes of a block's pairs; None for a list of pairs."""
    query, _, pair = subscripts
    return pair.index(query) if len(pair) == 2 else None


def _vector_context(
    pool_D: Tensor,
    query: AlignmentItems,
    key: AlignmentItems,
    attended: Attended,
    subscripts: Subscripts,
    matmul_dtype: torch.dtype | None,
) -> Tensor:
    """Returns v_c or t_c of Eq. 9 (pairs x D) with one gate value per channel."""
    q, x, p = subscripts
    arrays = query.channels, query.query_gate, key.channels, key.key_gate
    logits, axis = hide(attended.sums, query.padding, q, p), _query_axis(subscripts)
    gated, gamma = gate_fuse_pool(*arrays, attended.weights, logits, pool_D, query_axis=axis, matmul_dtype=matmul_dtype)
    mixed = torch.einsum(f"{p}n,{p}nm->{p}m", gamma, attended.weights)
    return gated + torch.einsum(f"{p}m,{x}md->{p}d", mixed, key.local)


def _scalar_context(query: AlignmentItems, key: AlignmentItems, attended: Attended, subscripts: Subscripts) -> Tensor:
    """Returns v_c or t_c of Eq. 9 (pairs x D) with one gate value per vector: no tensor N x D per pair is formed."""
    q, x, p = subscripts
    mixed = torch.einsum(f"{p}nm,{x}m->{p}n", attended.weights, key.key_gate[..., 0])
    gate = torch.sigmoid(mixed + over_pairs(query.query_gate[..., 0], subscripts))
    logits = gate * over_pairs(query.query_pool, subscripts) + (1 - gate) * attended.sums
    gamma = hide(logits, query.padding, q, p).softmax(dim=-1)
    from_query = torch.einsum(f"{p}n,{q}nd->{p}d", gamma * gate, query.local)
    mixed = torch.einsum(f"{p}n,{p}nm->{p}m", gamma * (1 - gate), attended.weights)
    return from_query + torch.einsum(f"{p}m,{x}md->{p}d", mixed, key.local)
