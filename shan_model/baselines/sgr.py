"""SGR, the similarity graph reasoning of SGRAF (Diao et al., AAAI 2021, arXiv 2101.01368; code: Paranioar/SGRAF).

The equations of the paper are those that public notes on it quote; what they leave open follows the published code. The
similarity of two vectors is itself a vector of S elements, s(x, y; W) = W|x - y|^2 / ||W|x - y|^2||, where the square
is that of each element. These vectors are the nodes of a graph: one of the global vectors of photo and caption, and one
of each word with the regions that it attends to. In each step

    s_p becomes ReLU(W_r sum_q e_pq s_q), with e_pq = softmax_q((W_in s_p) . (W_out s_q)),

and a linear layer with a sigmoid maps the global node to the score.

The scores are exact, and less is computed than the equations ask for:

- (W_in s_p) . (W_out s_q) = s_p (W_in^T W_out) s_q, so that a node needs one product instead of two.
- The last step computes the global node only.
- Vectors of width D for each word of a pair exist for a chunk of pairs, and are recomputed in the backward pass.

W|x - y|^2 is not expanded into W x^2 + W y^2 - 2 W(x y): the attended vector x belongs to a pair, so that two products
instead of one would remain for each pair, and where x is close to y their difference loses digits.

Shapes: K items of N vectors, R regions, W words, D joint width, S similarity width, Q = 1 + W nodes, B photos; `pairs`
stands for the leading axes of the pairs.
"""

from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from shan_model.batched_matcher import LIST, BatchedMatcher, Pairing, dot_products, split_items
from shan_model.config import ModelConfig
from shan_model.padding import hide, mean_vectors

WIDTH, STEPS = 256, 3
"""S and the number of reasoning steps, as published by the authors."""
LAMBDA, NEGATIVE_SLOPE = 9.0, 0.1
"""Inverse temperature of the attention and slope of its LeakyReLU, as in the published code."""
CHUNK_FLOATS = {"cpu": 1 << 20, "cuda": 64 << 20}
"""Floats of the attended vectors of the pairs that are scored at once."""


class SgrItems(NamedTuple):
    """K photos or captions of N vectors each."""

    local: Tensor
    """K x N x D: v_i or t_j."""
    pooled: Tensor
    """K x D: the global vector, of length 1."""
    padding: Tensor
    """K x N: see `padding.py`; K x 0 if no item is padded."""


class GlobalAttention(nn.Module):
    """The global vector of an item: the sum of its vectors under attention that their mean directs.

    It is the self-attention of the published code without BatchNorm and dropout. Its last bias is left out because a
    softmax does not depend on it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed_vectors, self.embed_mean = _linear(width, width), _linear(width, width)
        self.attend = _linear(width, 1, bias=False)

    def forward(self, vectors_KND: Tensor, padding_KN: Tensor) -> Tensor:
        """Returns the global vectors, K x D."""
        mean_KD = mean_vectors(vectors_KND, padding_KN)
        common_KND = self.embed_vectors(vectors_KND).tanh() * self.embed_mean(mean_KD).tanh()[:, None]
        weights_KN = hide(self.attend(common_KND)[..., 0], padding_KN, "k", "k").softmax(dim=-1)
        return _unit(torch.einsum("kn,knd->kd", weights_KN, vectors_KND))


class ReasoningStep(nn.Module):
    """One step of reasoning, with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.incoming, self.outgoing = _linear(WIDTH, WIDTH, bias=False), _linear(WIDTH, WIDTH, bias=False)
        self.update = _linear(WIDTH, WIDTH, bias=False)

    def forward(self, updated: Tensor, nodes: Tensor, padding_KQ: Tensor, caption: str, pair: str) -> Tensor:
        """Returns the new vectors of P nodes (pairs x P x S), which exchange information with all Q nodes.

        `padding_KQ` is that of the captions' nodes; `caption` and `pair` are einsum subscripts. `multi_dot` computes
        W_in^T W_out first if that is less work.
        """
        factors = updated.flatten(0, -2), self.incoming.weight.T, self.outgoing.weight
        logits = torch.linalg.multi_dot(factors).view_as(updated) @ nodes.transpose(-1, -2)
        edges = hide(logits, padding_KQ, caption, pair).softmax(dim=-1)
        return functional.relu(self.update(edges @ nodes))


class SGR(BatchedMatcher):
    """The score of SGRAF's SGR branch, between 0 and 1.

    Deviations from the published code:

    - Its global attention over regions has BatchNorm over the photos of a batch, so that a score depends on the batch,
      and both global attentions have dropout, so that mining and training would score a pair differently. Both are left
      out.
    - W, W_in, W_out and W_r have no biases, as in the paper's equations.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pool_regions, self.pool_words = GlobalAttention(config.joint_dim), GlobalAttention(config.joint_dim)
        self.compare_globals = _linear(config.joint_dim, WIDTH, bias=False)
        self.compare_locals = _linear(config.joint_dim, WIDTH, bias=False)
        self.steps = nn.ModuleList(ReasoningStep() for _ in range(STEPS))
        self.evaluate = _linear(WIDTH, 1)

    def prepare_photos(self, regions_KRD: Tensor, padding_KR: Tensor) -> SgrItems:
        """Prepares K photos of R regions."""
        return SgrItems(regions_KRD, self.pool_regions(regions_KRD, padding_KR), padding_KR)

    def prepare_captions(self, words_KWD: Tensor, padding_KW: Tensor) -> SgrItems:
        """Prepares K captions of W words."""
        return SgrItems(words_KWD, self.pool_words(words_KWD, padding_KW), padding_KW)

    def score_pairs(
        self,
        photos: SgrItems,
        captions: SgrItems,
        pairing: Pairing,
        matmul_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Returns the scores of the pairs, in the shape of `pairing.pair`, chunk by chunk."""
        of_photo = captions.local[0] if pairing is LIST else captions.local
        size = max(1, CHUNK_FLOATS[of_photo.device.type] // of_photo.numel())
        chunks = split_items(captions, size) if pairing is LIST else repeat(captions)
        score: Callable[..., Tensor] = self._score
        if torch.is_grad_enabled():
            score = partial(checkpoint, self._score, use_reentrant=False, preserve_rng_state=False)
        return torch.cat(
            [
                score(some_photos, some_captions, pairing, matmul_dtype)
                for some_photos, some_captions in zip(split_items(photos, size), chunks, strict=False)
            ]
        )

    def word_attention(self, regions_BRD: Tensor, words_WD: Tensor) -> Tensor:
        """Returns each word's attention to the regions, B x R x W (sums to 1 over R)."""
        return _logits(regions_BRD @ words_WD.T).softmax(dim=1)

    def _score(
        self,
        photos: SgrItems,
        captions: SgrItems,
        pairing: Pairing,
        matmul_dtype: torch.dtype | None,
    ) -> Tensor:
        photo, caption, pair = pairing
        logits = _logits(dot_products(photos.local, captions.local, pairing, matmul_dtype)).transpose(-1, -2)
        weights = hide(logits, photos.padding, photo, pair).softmax(dim=-1)
        attended = _unit(torch.einsum(f"{pair}wr,{photo}rd->{pair}wd", weights, photos.local))
        of_words = _similarity(self.compare_locals, attended, pairing.captions(captions.local))
        pooled = pairing.photos(photos.pooled), pairing.captions(captions.pooled)
        nodes = torch.cat([_similarity(self.compare_globals, *pooled)[..., None, :], of_words], dim=-2)
        padding = functional.pad(captions.padding, (1, 0)) if captions.padding.shape[1] else captions.padding
        for number, step in enumerate(self.steps, 1):
            updated = nodes[..., :1, :] if number == STEPS else nodes
            nodes = step(updated, nodes, padding, caption, pair)
        return torch.sigmoid(self.evaluate(nodes[..., 0, :])[..., 0])


def _linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """Returns a layer with a Xavier-uniform weight and a zero bias, as in the published code."""
    linear = nn.Linear(inputs, outputs, bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def _unit(x: Tensor) -> Tensor:
    return functional.normalize(x, dim=-1, eps=1e-8)


def _similarity(weight: nn.Linear, x: Tensor, y: Tensor) -> Tensor:
    """Returns s(x, y; W) over the last axis."""
    return _unit(weight((x - y).square()))


def _logits(dots_RW: Tensor) -> Tensor:
    """Returns the logits of the words' attention (... x R x W): LeakyReLU, L2-normalised over the words."""
    return LAMBDA * _unit(functional.leaky_relu(dots_RW, NEGATIVE_SLOPE))
