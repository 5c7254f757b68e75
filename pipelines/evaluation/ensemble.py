"""An ensemble: the mean of the score matrices of several models, as SCAN and its successors report it.

Scores are averaged as they are, so a model whose scores have a wider range has more influence.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from pipelines.evaluation.results import Evaluation
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import LoadedModel
from pipelines.reports.tables import Table
from shan_model.metrics import retrieval_ranks


def require_one_feature_set(members: Sequence[tuple[str, FeatureSet]]) -> None:
    """Raises UserError unless there are at least two members, by URI, and all use one feature set."""
    if len(members) < 2:
        raise UserError(f"--ensemble names {len(members)} model; give at least two different ones")
    first, features = members[0]
    for uri, other in members:
        if other.pinned_uri != features.pinned_uri:
            raise UserError(
                f"--ensemble averages scores of the same features, but {first} has {features.pinned_uri} and {uri} has "
                f"{other.pinned_uri}; give models for one feature set"
            )


class Ensemble:
    """Sums the score matrices of its members, fold by fold, as they are evaluated."""

    def __init__(self, members: Sequence[LoadedModel] = ()) -> None:
        """Raises UserError if two members are copies of one model."""
        self._members: list[LoadedModel] = []
        self._sums: dict[int, NDArray[np.float32]] = {}
        for member in members:
            self.include(member)

    def include(self, member: LoadedModel) -> None:
        """Makes a model a member. Raises UserError if it is a copy of another member."""
        for other in self._members:
            if other.digest == member.digest:
                raise UserError(
                    f"--ensemble names the same model twice, as {other.uri} and {member.uri}; omit one of them"
                )
        self._members.append(member)

    def add(self, fold: int, scores_NC: NDArray[np.floating]) -> None:
        """Adds the scores of a member on a fold."""
        if fold in self._sums:
            self._sums[fold] += scores_NC
        else:
            self._sums[fold] = np.array(scores_NC, dtype=np.float32)

    def evaluation(self, of_member: Evaluation) -> Evaluation:
        """Returns the evaluation of the mean scores, on the galleries of a member's evaluation."""
        ranks = [
            retrieval_ranks(self._sums[number] / len(self._members), fold.photo_of_caption)
            for number, fold in enumerate(of_member.folds)
        ]
        return replace(of_member, model="ensemble", ranks=ranks)

    def table(self) -> Table:
        """Returns a row per member: URI, similarity function, and the digest of its files."""
        rows = [[member.uri, member.shan.config.matcher, member.digest[:12]] for member in self._members]
        return Table(f"ensemble: mean of the scores of {len(rows)} models", ["model", "matcher", "digest"], rows)
