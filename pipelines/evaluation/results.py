"""What was measured of a model on a split, and tables of one model or several side by side.

Intervals hold 95 % of the resamples of the split's photos (shan_model/bootstrap.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.reports.tables import Table
from shan_model.bootstrap import interval, resample_recalls
from shan_model.metrics import CUTS, Ranks, Recalls
from shan_model.protocols import Fold, mean_chance, mean_medians, mean_recalls

SIDES = {"text": "text retrieval (a photo asks)", "image": "image retrieval (a sentence asks)"}


@dataclass(frozen=True)
class Evaluation:
    """Ranks of a model on a split, gallery by gallery, and the figures that follow from them."""

    model: str
    split: str
    """Name of the split, and the protocol if there is one."""
    photos: int
    captions: int
    folds: Sequence[Fold]
    """Galleries that the figures are the mean of."""
    ranks: Sequence[Ranks]
    """One a gallery."""

    @cached_property
    def recalls(self) -> Recalls:
        """Mean over the galleries."""
        return mean_recalls(list(self.ranks))

    @cached_property
    def chance(self) -> Recalls:
        """What random rankings reach."""
        return mean_chance(list(self.folds))

    @cached_property
    def medians(self) -> dict[str, float]:
        """Median rank of the first right answer, both ways, counted from 1."""
        return mean_medians(list(self.ranks))

    @cached_property
    def resamples(self) -> dict[str, NDArray[np.float64]]:
        """The names of `figures`, S values each: row s of two evaluations of one split is of the same photos."""
        recalls_S6 = resample_recalls(self.ranks, [fold.photo_of_caption for fold in self.folds])
        text_S3, image_S3 = recalls_S6[:, : len(CUTS)], recalls_S6[:, len(CUTS) :]
        sums = {"text_sum": text_S3.sum(1), "image_sum": image_S3.sum(1), "rsum": recalls_S6.sum(1)}
        return dict(zip(vars(self.recalls), recalls_S6.T, strict=True)) | sums

    def described(self) -> str:
        """The question's size, for a title."""
        told = f"{self.split}: {self.photos} photos, {self.captions} captions"
        return told + (f", mean of {len(self.folds)} folds" if len(self.folds) > 1 else "")


def figures(recalls: Recalls) -> dict[str, float]:
    """The six recalls, `text_sum`, `image_sum` and `rsum`."""
    return vars(recalls) | {"text_sum": recalls.text_sum, "image_sum": recalls.image_sum, "rsum": recalls.rsum}


def tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """A table each way and one of rSum, a row a model and one of chance; then, of several models, the differences."""
    first, *others = evaluations
    made = []
    for side, title in SIDES.items():
        names = [*(f"{side}_r{k}" for k in CUTS), f"{side}_sum"]
        rows = [
            [e.model, *(_with_interval(e, name) for name in names), f"{e.medians[f'{side}_median_rank']:g}"]
            for e in evaluations
        ]
        rows.append(["chance", *(f"{figures(first.chance)[name]:.1f}" for name in names), ""])
        head = ["model", *(f"R@{k}" for k in CUTS), "sum", "median rank"]
        made.append(Table(f"{first.described()}; {title}", head, rows))
    rows = [[e.model, _with_interval(e, "rsum")] for e in evaluations]
    both = Table(f"{first.described()}; both ways", ["model", "rSum"], [*rows, ["chance", f"{first.chance.rsum:.1f}"]])
    return [*made, both, *(difference_table(other, first) for other in others)]


def difference_table(one: Evaluation, against: Evaluation) -> Table:
    """Every figure of `one` minus that of `against`, drawn alike, and how often it is better."""
    ours, theirs = figures(one.recalls), figures(against.recalls)
    rows = []
    for name in ours:
        difference_S = one.resamples[name] - against.resamples[name]
        low, high = interval(difference_S)
        rows.append(
            [
                label(name),
                f"{ours[name] - theirs[name]:+.1f}",
                f"{low:+.1f} to {high:+.1f}",
                f"{100 * float((difference_S > 0).mean()):.1f} %",
            ]
        )
    head = ["figure", "difference", "95 % interval", "resamples that are better"]
    return Table(f"{one.model} minus {against.model}", head, rows)


def label(figure: str) -> str:
    """A figure's name as people write it: `text_r1` is text R@1."""
    return "rSum" if figure == "rsum" else figure.replace("_r", " R@").replace("_", " ")


def _with_interval(evaluation: Evaluation, name: str) -> str:
    low, high = interval(evaluation.resamples[name])
    return f"{figures(evaluation.recalls)[name]:.1f} ({low:.1f} to {high:.1f})"
