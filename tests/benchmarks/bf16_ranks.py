"""Ranks of a split by scores with products in bf16, against float32.

python -m tests.benchmarks.bf16_ranks MODEL FEATURES [--split test]
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from infra.tracking import TrackingConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.features.split import Split
from pipelines.reports.tables import Table
from pipelines.search.index_commands import load_version
from shan_model.metrics import retrieval_ranks
from shan_model.model import SHAN
from shan_model.scoring import score_matrix

BEST = 10
HEADER = ["queries", "gallery", "largest difference", "rSum float32", "rSum bf16", "same top 1", "top 10 in common"]


def measure(shan: SHAN, split: Split) -> list[list[str]]:
    """Returns the rows of the table: photos as queries, then captions."""
    captions = list(split.captions)
    fp32_NC, bf16_NC = (score_matrix(shan, split, captions, precision=precision) for precision in ("fp32", "bf16"))
    rsums = [f"{retrieval_ranks(s, split.photo_of_caption).recalls().rsum:.1f}" for s in (fp32_NC, bf16_NC)]
    difference = f"{np.abs(fp32_NC - bf16_NC).max():.1e}"
    return [
        [name, f"{exact.shape[1]:,}", difference, *rsums, *_fractions(exact, rounded)]
        for name, exact, rounded in (("photos", fp32_NC, bf16_NC), ("captions", fp32_NC.T, bf16_NC.T))
    ]


def _fractions(exact_QG: NDArray[np.floating], rounded_QG: NDArray[np.floating]) -> list[str]:
    """Returns the fraction of queries with the same best item, and the mean fraction of the best ten in common."""
    exact, rounded = (np.argsort(-scores, axis=1, kind="stable")[:, :BEST] for scores in (exact_QG, rounded_QG))
    common = np.mean([np.isin(a, b).mean() for a, b in zip(exact, rounded, strict=True)])
    return [f"{100 * (exact[:, 0] == rounded[:, 0]).mean():.2f} %", f"{100 * common:.2f} %"]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bf16_ranks", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("features")
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()
    split = FeatureSet.open(arguments.features).split(arguments.split).captioned()
    rows = measure(load_version(arguments.model, TrackingConfig()).shan, split)
    print(Table("ranks in bf16", HEADER, rows).markdown())


if __name__ == "__main__":
    main()
