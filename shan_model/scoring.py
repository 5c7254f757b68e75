"""All pairs of photos and captions, block by block: the one way that evaluation and search score."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from shan_model.model import SHAN


class RegionRows(Protocol):
    """Region features of N photos that can be sliced: an array N x R x F, a memory map, a split of a feature set."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        """Features n x R x F of consecutive photos."""


@torch.inference_mode()
def score_matrix(
    model: SHAN,
    regions_NRF: RegionRows,
    captions: Sequence[str],
    *,
    photos_per_block: int = 128,
    captions_per_block: int = 256,
    progress: Callable[[int], object] = lambda _: None,
) -> NDArray[np.float32]:
    """Scores N x C (float32) of N photos' region features with C captions; every item is encoded once.

    `progress` is called with the number of pairs that a finished block added. The model leaves in the mode it came
    in: a training loop that validates goes on training (cuDNN's GRU refuses a backward pass in evaluation mode).
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    scores_NC = np.empty((len(regions_NRF), len(captions)), dtype=np.float32)
    words = [
        words_WD
        for start in range(0, len(captions), captions_per_block)
        for words_WD in model.encode_captions(captions[start : start + captions_per_block])
    ]
    for top in range(0, len(regions_NRF), photos_per_block):
        block_BRF = torch.from_numpy(np.array(regions_NRF[top : top + photos_per_block])).to(device)
        regions_BRD = model.encode_photos(block_BRF)
        for left in range(0, len(captions), captions_per_block):
            block_BC = model.alignment(regions_BRD, words[left : left + captions_per_block])
            scores_NC[top : top + len(block_BC), left : left + block_BC.shape[1]] = block_BC.float().cpu().numpy()
            progress(block_BC.numel())
    model.train(was_training)
    return scores_NC
