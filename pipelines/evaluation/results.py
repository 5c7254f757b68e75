"""Retrieval results of a model on a split, and tables of one or several models side by side.

Intervals cover 95 % of the bootstrap resamples of the split's photos (shan_model/bootstrap.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.reports.tables import Table
from shan_model.bootstrap import interval, resample_recalls
from shan_model.metrics import CUTS, Ranks, Recalls
from shan_model.protocols import Fold, mean_medians, mean_random_recalls, mean_recalls

DIRECTIONS = {"image_to_text": "image-to-text retrieval", "text_to_image": "text-to-image retrieval"}
"""Prefix of the metrics of each direction, and its name in tables and messages."""


@dataclass(frozen=True)
class Evaluation:
    """Ranks of a model on the galleries of a split, and the metrics derived from them."""

    model: str
    """How tables name the model: its URI, or `version N`."""
    split: str
    """Name of the split, followed by the protocol if there is one."""
    photos: int
    captions: int
    folds: Sequence[Fold]
    """The galleries; metrics are means over them."""
    ranks: Sequence[Ranks]
    """One per gallery."""

    @cached_property
    def recalls(self) -> Recalls:
        """Mean recalls over the galleries."""
        return mean_recalls(list(self.ranks))

    @cached_property
    def random_baseline(self) -> Recalls:
        """Expected recalls of a uniformly random ranking of the same galleries."""
        return mean_random_recalls(list(self.folds))

    @cached_property
    def medians(self) -> dict[str, float]:
        """Median rank of the first correct item in both directions, counted from 1."""
        return mean_medians(list(self.ranks))

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The six recalls, the sum of each direction and `rsum` by name."""
        return self.recalls.with_sums()

    @cached_property
    def resamples(self) -> dict[str, NDArray[np.float64]]:
        """S resampled values of each of `metrics`; row s of two evaluations of one split uses the same photos."""
        recalls_S6 = resample_recalls(self.ranks, [fold.photo_of_caption for fold in self.folds])
        image_to_text_S3, text_to_image_S3 = recalls_S6[:, : len(CUTS)], recalls_S6[:, len(CUTS) :]
        sums = {
            "image_to_text_sum": image_to_text_S3.sum(1),
            "text_to_image_sum": text_to_image_S3.sum(1),
            "rsum": recalls_S6.sum(1),
        }
        return dict(zip(vars(self.recalls), recalls_S6.T, strict=True)) | sums

    def title(self) -> str:
        """Returns the split with the size of its galleries, for table titles."""
        size = f"{self.split}: {self.photos} photos, {self.captions} captions"
        return size + (f", mean of {len(self.folds)} folds" if len(self.folds) > 1 else "")


def evaluation_tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """Returns a table per direction and one of rSum, with a row per model and one of the random baseline.

    Tables of the differences between every other model and the first one follow.
    """
    first, *others = evaluations
    random_metrics = first.random_baseline.with_sums()
    tables = []
    for direction, title in DIRECTIONS.items():
        names = [*(f"{direction}_r{k}" for k in CUTS), f"{direction}_sum"]
        rows = [
            [e.model, *(_with_interval(e, name) for name in names), f"{e.medians[f'{direction}_median_rank']:g}"]
            for e in evaluations
        ]
        rows.append(["random baseline", *(f"{random_metrics[name]:.1f}" for name in names), ""])
        header = ["model", *(f"R@{k}" for k in CUTS), "sum", "median rank"]
        tables.append(Table(f"{first.title()}; {title}", header, rows))
    rows = [[e.model, _with_interval(e, "rsum")] for e in evaluations]
    rows.append(["random baseline", f"{random_metrics['rsum']:.1f}"])
    tables.append(Table(f"{first.title()}; both directions", ["model", "rSum"], rows))
    return [*tables, *(difference_table(other, first) for other in others)]


def difference_table(one: Evaluation, reference: Evaluation) -> Table:
    """Returns the paired difference of each metric, `one` minus `reference`, and the fraction of resamples above 0."""
    rows = []
    for name, value in one.metrics.items():
        difference_S = one.resamples[name] - reference.resamples[name]
        low, high = interval(difference_S)
        rows.append(
            [
                metric_label(name),
                f"{value - reference.metrics[name]:+.1f}",
                f"{low:+.1f} to {high:+.1f}",
                f"{100 * float((difference_S > 0).mean()):.1f} %",
            ]
        )
    header = ["metric", "difference", "95 % interval", "resamples above 0"]
    return Table(f"{one.model} minus {reference.model}", header, rows)


def metric_label(name: str) -> str:
    """Returns a metric's name as tables show it: `image_to_text_r1` becomes `image-to-text R@1`."""
    if name == "rsum":
        return "rSum"
    direction, cut = name.rsplit("_", 1)
    return f"{direction.replace('_', '-')} {cut.replace('r', 'R@')}"


def _with_interval(evaluation: Evaluation, name: str) -> str:
    low, high = interval(evaluation.resamples[name])
    return f"{evaluation.metrics[name]:.1f} ({low:.1f} to {high:.1f})"
