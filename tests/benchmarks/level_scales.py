"""Retrieval of a trained SHAN-full with other scales of its levels.

    python -m tests.benchmarks.level_scales FEATURES BUNDLE... [--split val]

The score is S_L2L + a S_G2L + b S_G2G (Eq. 16, where both factors are 1). The table has the rSum for pairs of a and b,
with the weights as they were trained; 0 leaves a level out. Of several bundles, such as those of three seeds, it has
the mean. Intervals are those of the difference to a = b = 1, paired over resampled photos.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.features.feature_set import FeatureSet
from pipelines.features.split import Split
from pipelines.reports.tables import Table
from shan_model.blocks import RowRange
from shan_model.bootstrap import interval, resample_recalls
from shan_model.bundle import load_bundle
from shan_model.metrics import retrieval_ranks
from shan_model.model import SHAN
from shan_model.scoring import score_matrix

SCALES = (0.0, 0.1, 0.3, 1.0)
NOTHING = 1e-6
"""The config has no scale of 0."""


def level_matrices(shan: SHAN, split: Split) -> list[NDArray[np.float64]]:
    """Returns S_L2L, S_G2L and S_G2G of all pairs, N x C, without their scales."""

    def scored(g2l_scale: float, g2g_scale: float) -> NDArray[np.float64]:
        scaled = SHAN(replace(shan.config, g2l_scale=g2l_scale, g2g_scale=g2g_scale), shan.vocabulary)
        scaled.load_state_dict(shan.state_dict())
        rows = RowRange(split, slice(0, len(split)))
        return score_matrix(scaled.eval(), rows, split.captions).astype(np.float64)

    l2l = scored(NOTHING, NOTHING)
    return [l2l, scored(1, NOTHING) - l2l, scored(NOTHING, 1) - l2l]


def rsums(shan: SHAN, split: Split, scales: Sequence[float] = SCALES) -> NDArray[np.float64]:
    """Returns the rSum for each scale of S_G2L (first axis) and of S_G2G (second axis).

    The third axis has the rSum of the split and, behind it, that of each resample.
    """
    l2l, g2l, g2g = level_matrices(shan, split)
    return np.array([[_rsums(l2l + a * g2l + b * g2g, split.photo_of_caption) for b in scales] for a in scales])


def _rsums(scores_NC: NDArray[np.float64], photo_of_caption: NDArray[np.int64]) -> NDArray[np.float64]:
    ranks = retrieval_ranks(scores_NC, photo_of_caption)
    resampled_S6 = resample_recalls([ranks], [photo_of_caption])
    return np.concatenate([[ranks.recalls().rsum], resampled_S6.sum(axis=1)])


def table(title: str, rsums_SST: NDArray[np.float64]) -> Table:
    """Returns the rSum for each pair of scales, and the interval of its difference to the last pair."""

    def cell(rsums_T: NDArray[np.float64]) -> str:
        low, high = interval((rsums_T - trained_T)[1:])
        return f"{rsums_T[0]:.1f} ({low:+.1f} to {high:+.1f})" if low or high else f"{rsums_T[0]:.1f}"

    trained_T = rsums_SST[-1, -1]
    rows = [[f"G2L x {a:g}", *map(cell, row)] for a, row in zip(SCALES, rsums_SST, strict=True)]
    return Table(title, ["", *(f"G2G x {b:g}" for b in SCALES)], rows)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.level_scales", description=__doc__)
    parser.add_argument("features")
    parser.add_argument("bundle", type=Path, nargs="+")
    parser.add_argument("--split", default="val")
    arguments = parser.parse_args()
    split = FeatureSet.open(arguments.features).split(arguments.split).captioned()
    found = np.mean([rsums(load_bundle(bundle), split) for bundle in arguments.bundle], axis=0)
    print(table(f"rSum on {split.name}, photos: {len(split)}, models: {len(arguments.bundle)}", found).markdown())


if __name__ == "__main__":
    main()
