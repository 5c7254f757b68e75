"""A registered model on a split of a feature set: recalls both ways, with chance beside them.

python -m jobs.evaluate --model-uri models:/shan-flickr30k@champion --features URI --split test
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import infra.tracking
from infra.errors import UserError
from infra.registry import load_model
from infra.tracking import Tracking
from jobs import cli
from jobs.config import Config
from jobs.score import RowRange, score
from pipelines.feature_set import FeatureSet, Split
from shan_model.metrics import Recalls, retrieval_ranks
from shan_model.model import SHAN
from shan_model.protocols import PROTOCOLS, Fold, cut_folds, mean_chance, mean_medians, mean_recalls
from shan_model.scoring import Progress, identity


@dataclass(frozen=True)
class Evaluation:
    """Recalls of a model on a split, what chance would reach there, and the size of the question."""

    model: str
    split: str
    photos: int
    captions: int
    recalls: Recalls
    chance: Recalls
    medians: dict[str, float]
    """Median rank of the first right answer, both ways, counted from 1."""
    folds: int = 1
    """Galleries that the figures are the mean of."""

    def table(self) -> str:
        """A Markdown table: text retrieval (photo asks), image retrieval (sentence asks), rSum, median ranks."""
        gallery = f"{self.split}: {self.photos} photos, {self.captions} captions"
        if self.folds > 1:
            gallery += f", mean of {self.folds} folds"
        rows = [
            f"| {gallery} | text R@1 | R@5 | R@10 | median | image R@1 | R@5 | R@10 | median | rSum |",
            "|---|---|---|---|---|---|---|---|---|---|",
            _row(self.model, self.recalls, self.medians),
            _row("chance", self.chance, {}),
        ]
        return "\n".join(rows)


def _row(name: str, recalls: Recalls, medians: dict[str, float]) -> str:
    cells = [f"{value:.1f}" for value in recalls.as_metrics().values()]
    for place, side in ((3, "text"), (7, "image")):
        median = medians.get(f"{side}_median_rank")
        cells.insert(place, "" if median is None else f"{median:g}")
    return f"| {name} | " + " | ".join(cells) + " |"


def load_matcher(tracking: Tracking, uri: str, features: FeatureSet) -> SHAN:
    """The network of a registered model, if it was made for these features: UserError where the fingerprints differ."""
    python_model, lineage = load_model(tracking, uri)
    made_for, found = lineage.get("fingerprint"), features.lineage["fingerprint"]
    if made_for != found:
        raise UserError(
            f"{uri} was made for features of {made_for}, {features.uri} has {found}; "
            "extract with the detector that the model was trained on"
        )
    shan: SHAN = python_model.shan
    return shan


def evaluate(shan: SHAN, name: str, split: Split, config: Config, protocol: str | None = None) -> Evaluation:
    """Scores the split's photos with its captions and measures retrieval both ways, fold by fold of the protocol.

    Raises UserError for a split of another size than the protocol's.
    """
    try:
        folds = cut_folds(protocol, len(split), split.photo_of_caption)
    except ValueError as error:
        raise UserError(str(error)) from error
    pairs = sum((fold.photos.stop - fold.photos.start) * len(fold.captions) for fold in folds)
    ranks = []
    with tqdm(total=pairs, desc=f"score {split.name}", unit="pair", unit_scale=True) as bar:
        for number, fold in enumerate(folds):
            scores_NC = _score_fold(shan, split, fold, number if len(folds) > 1 else None, config, bar.update)
            ranks.append(retrieval_ranks(scores_NC, fold.photo_of_caption))
    return Evaluation(
        model=name,
        split=split.name if protocol is None else f"{split.name}, {protocol}",
        photos=len(split),
        captions=len(split.captions),
        recalls=mean_recalls(ranks),
        chance=mean_chance(folds),
        medians=mean_medians(ranks),
        folds=len(folds),
    )


def _score_fold(
    shan: SHAN, split: Split, fold: Fold, number: int | None, config: Config, progress: Progress
) -> NDArray[np.floating]:
    captions = [split.captions[c] for c in fold.captions]
    options = config.score
    if options.output and number is not None:
        path = Path(options.output)
        options = replace(options, output=str(path.with_stem(f"{path.stem}-fold{number}")))
    of = "|".join((*(receipt.sha256 for receipt in split.receipts), str(fold.photos)))
    scores_of = identity(shan, captions, features=of) if options.output else ""
    return score(shan, RowRange(split, fold.photos), captions, options, config.cluster, scores_of, progress)


def log_evaluation(tracking: Tracking, run_id: str, evaluation: Evaluation) -> None:
    """Metrics `<split>_...` and the table into a run."""
    metrics = evaluation.recalls.as_metrics() | evaluation.medians
    tracking.log_metrics(run_id, {f"{evaluation.split}_{k}": v for k, v in metrics.items()})
    tracking.log_metrics(run_id, {f"{evaluation.split}_chance_rsum": evaluation.chance.rsum})
    tracking.client().log_text(run_id, evaluation.table() + "\n", f"evaluation_{evaluation.split}.md")


def _arguments(parser: Any) -> None:
    parser.add_argument(
        "--model-uri", type=str, required=True, help="models:/<name>@champion or models:/<name>/<version>"
    )
    parser.add_argument("--features", type=str, required=True, help="URI of a feature set")
    parser.add_argument("--split", type=str, default="test", help="train, val or test")
    parser.add_argument(
        "--protocol",
        type=str | None,
        default=None,
        help=f"{', '.join(PROTOCOLS)}: a published protocol (its test split has a fixed size); none: the whole split",
    )


def main() -> None:
    """Command line."""
    arguments, config = cli.parse(
        "evaluate", "Recalls of a registered model.", _arguments, ("score", "tracking", "cluster")
    )
    features = FeatureSet.open(arguments.features)
    split = features.split(arguments.split)
    shan = load_matcher(infra.tracking.connect(config.tracking), arguments.model_uri, features)
    print(evaluate(shan, arguments.model_uri, split, config, arguments.protocol).table())


if __name__ == "__main__":
    cli.run(main)
