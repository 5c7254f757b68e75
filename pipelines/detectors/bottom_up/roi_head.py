"""The box head: the features of the regions from res5, and their classes, box deltas and attributes.

Shapes: R regions, F feature width, C classes, E width of a class embedding, H x W cells.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.detectors.bottom_up.checkpoint_keys import ATTRIBUTES, CLASSES
from pipelines.detectors.bottom_up.resnet import make_layer
from pipelines.detectors.bottom_up.roi_pool import roi_pool, window_maxima

_CHUNK_SIZES = {"cpu": 25, "cuda": 100}
"""Regions that pass through res5 at once. Limits memory (14 x 14 x 2048 floats each); results depend on it by rounding
error only."""


class RegionFeatures(nn.Module):
    """RoIPool, res5 with stride 1 and dilation 2, and the mean over the 14 x 14 bins."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.res5 = make_layer(tensors, "roi_heads.res5", blocks=3, dilation=2)

    def forward(self, map_CHW: Tensor, boxes_R4: Tensor) -> Tensor:
        """Returns features (R, 2048) float32, values >= 0."""
        windows_PQYXC = window_maxima(map_CHW)
        chunks = boxes_R4.split(_CHUNK_SIZES[map_CHW.device.type])
        parts = [self.res5(roi_pool(windows_PQYXC, boxes)).mean((2, 3), dtype=torch.float32) for boxes in chunks]
        return torch.cat(parts)


class Predictor(nn.Module):
    """Linear layers on the features. They are float32 in every precision, since they are cheap and rank the regions."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        prefix = "roi_heads.box_predictor."
        for name, tensor in tensors.items():
            if name.startswith(prefix):
                self.register_buffer(name.removeprefix(prefix).replace(".", "_"), tensor)

    def class_logits(self, features_RF: Tensor) -> Tensor:
        """Returns class logits (R, 1601), background last."""
        return self._linear("cls_score", features_RF)

    def box_deltas(self, features_RF: Tensor, classes_R: Tensor) -> Tensor:
        """Returns the box deltas (R, 4) of the given classes."""
        deltas_RC4 = self._linear("bbox_pred", features_RF).view(-1, CLASSES, 4)
        return deltas_RC4[torch.arange(len(classes_R), device=classes_R.device), classes_R]

    def attribute_probabilities(self, features_RF: Tensor, logits_RC: Tensor) -> Tensor:
        """Returns the attribute probabilities (R, 400) of a softmax over 401 columns, without the column "none".

        `logits_RC` are the class logits, background included.
        """
        embedded_RE = self.get_buffer("cls_embedding_weight")[logits_RC.argmax(dim=1)]
        hidden = F.relu_(self._linear("fc_attr", torch.cat([features_RF, embedded_RE], dim=1)))
        return self._linear("attr_score", hidden).softmax(dim=1)[:, :ATTRIBUTES]

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias"))
