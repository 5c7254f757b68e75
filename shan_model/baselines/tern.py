"""TERN, the Transformer Encoder Reasoning Network (Messina et al., ICPR 2020, arXiv 2004.09144).

Transformer encoder layers (Vaswani et al., 2017) relate the regions of a photo to each other, and the deepest layers,
which photos and captions share, also the words of a caption. One vector of each is compared by the cosine, so that a
gallery can be indexed. All numbers are those of the authors' code (github.com/mesnico/TERN: `configs/tern.yaml`,
`models/tern.py`, `models/visual.py`).

Shapes: K items of a group, R regions, W words, N vectors of an item, D joint width, B photos.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from shan_model.baselines.vsepp import VSEPP, VseppItems
from shan_model.batched_matcher import Group, reordered
from shan_model.config import TERN_HEADS, ModelConfig

REGION_LAYERS, SHARED_LAYERS = 4, 2
"""Layers of the regions alone, and layers on top of them that photos and captions share, as published."""
FEED_FORWARD = 2
"""Width of a feed-forward layer as a multiple of D. At the published D of 1,024 it is the published 2,048."""


class TERN(VSEPP):
    """s(i, c) = f(i) . g(c) as in VSE++, where f is the output of the I-CLS token and g that of the T-CLS token.

    I-CLS is prepended to the regions: a learned vector that starts at zero (the published code prepends zeros, which
    the biases of its box encoding turn into a learned vector). T-CLS is the first token of the caption: `<start>`, or
    the [CLS] of a pretrained text encoder. Layers normalise after the residual sums, use ReLU, and start equal within a
    stack, as published; the shared layers get no positions. Train it with the hardest-negative loss.

    Deviations from the published model:
    - The configured text encoder replaces BERT. As published, captions have no other layers of their own.
    - Regions come without their boxes.
    - Regions are projected to D before their layers (published: after them), which therefore have the width D and not
      that of the features.
    - Layers have no dropout (published: 0.1), with which mining and the loss would score different networks.
    """

    pools_means = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.photo_token = nn.Parameter(torch.zeros(config.joint_dim))
        self.region_layers = _layers(config.joint_dim, REGION_LAYERS)
        self.shared_layers = _layers(config.joint_dim, SHARED_LAYERS)

    def prepare_photos(self, regions_KRD: Tensor, padding_KR: Tensor) -> VseppItems:
        """Prepares K photos of R regions."""
        mask_KR = _mask(padding_KR)
        mask_KN = None if mask_KR is None else functional.pad(mask_KR, (1, 0), value=False)  # I-CLS is not padding
        return self._items(self._region_outputs(regions_KRD, mask_KN), mask_KN)

    def prepare_captions(self, words_KWD: Tensor, padding_KW: Tensor) -> VseppItems:
        """Prepares K captions of W words."""
        return self._items(words_KWD, _mask(padding_KW))

    def pooled_photos(self, regions: Sequence[Tensor] | Tensor) -> Tensor:
        """Returns f of each of B photos, B x D. Its cosines with g are the scores, so candidates are the best items."""
        return _units(self.photo_groups(regions))

    def pooled_captions(self, words: Sequence[Tensor] | Tensor) -> Tensor:
        """Returns g of each of C captions, C x D."""
        return _units(self.caption_groups(words))

    def word_attention(self, regions_BRD: Tensor, words_WD: Tensor) -> Tensor:
        """Returns B x R x W (sums to 1 over R): the attention of I-CLS in the last layer, whatever the word.

        It is the mean of the heads over the regions, without the attention of I-CLS to itself.
        """
        outputs_BND = self._region_outputs(regions_BRD, None)
        *earlier, last = self.shared_layers.layers
        for layer in earlier:
            outputs_BND = layer(outputs_BND)
        _, weights_BNN = last.self_attn(outputs_BND, outputs_BND, outputs_BND)
        weights_BR = functional.normalize(weights_BNN[:, 0, 1:], p=1, dim=-1)
        return weights_BR[..., None].expand(-1, -1, len(words_WD))

    def _region_outputs(self, regions_KRD: Tensor, mask_KN: Tensor | None) -> Tensor:
        """Returns the outputs of the region layers, K x (1 + R) x D; the first is that of I-CLS."""
        token_K1D = self.photo_token.expand(len(regions_KRD), 1, -1)
        outputs: Tensor = self.region_layers(torch.cat([token_K1D, regions_KRD], dim=1), src_key_padding_mask=mask_KN)
        return outputs

    def _items(self, x_KND: Tensor, mask_KN: Tensor | None) -> VseppItems:
        """Returns the first output of the shared layers, L2-normalised."""
        outputs_KND = self.shared_layers(x_KND, src_key_padding_mask=mask_KN)
        return VseppItems(functional.normalize(outputs_KND[:, :1], dim=-1, eps=1e-8))


def _layers(width: int, count: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(width, TERN_HEADS, FEED_FORWARD * width, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, count, enable_nested_tensor=False)


def _units(groups: Sequence[Group]) -> Tensor:
    """Returns the vectors of grouped items in the original order of the items."""
    return reordered(torch.cat([group.items.unit[:, 0] for group in groups]), groups, dim=0)


def _mask(padding_KN: Tensor) -> Tensor | None:
    """Returns which vectors no other attends to, K x N; None if no item is padded."""
    return padding_KN < 0 if padding_KN.shape[1] else None
