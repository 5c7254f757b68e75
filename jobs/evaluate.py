"""A registered model on a split of a feature set: recalls both ways, with chance beside them.

python -m jobs.evaluate --model-uri models:/shan-flickr30k@champion --features URI --split test
"""

from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

import infra.tracking
from infra.errors import UserError
from infra.registry import load_model
from infra.tracking import Tracking
from jobs import cli
from pipelines.feature_set import FeatureSet, Split
from shan_model.metrics import Recalls, chance_recalls, retrieval_recalls
from shan_model.model import SHAN
from shan_model.scoring import score_matrix


@dataclass(frozen=True)
class Evaluation:
    """Recalls of a model on a split, what chance would reach there, and the size of the question."""

    model: str
    split: str
    photos: int
    captions: int
    recalls: Recalls
    chance: Recalls

    def table(self) -> str:
        """A Markdown table: text retrieval (photo asks), image retrieval (sentence asks), rSum."""
        rows = [
            f"| {self.split}: {self.photos} photos, {self.captions} captions "
            "| text R@1 | R@5 | R@10 | image R@1 | R@5 | R@10 | rSum |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name, recalls in ((self.model, self.recalls), ("chance", self.chance)):
            rows.append(f"| {name} | " + " | ".join(f"{v:.1f}" for v in recalls.as_metrics().values()) + " |")
        return "\n".join(rows)


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


def evaluate(shan: SHAN, name: str, split: Split) -> Evaluation:
    """Scores every photo of the split with every caption and measures retrieval both ways."""
    with tqdm(total=len(split) * len(split.captions), desc=f"score {split.name}", unit="pair", unit_scale=True) as bar:
        scores_NC = score_matrix(shan, split, split.captions, progress=bar.update)
    return Evaluation(
        model=name,
        split=split.name,
        photos=len(split),
        captions=len(split.captions),
        recalls=retrieval_recalls(scores_NC, split.photo_of_caption),
        chance=chance_recalls(split.photo_of_caption),
    )


def log_evaluation(tracking: Tracking, run_id: str, evaluation: Evaluation) -> None:
    """Metrics `<split>_...` and the table into a run."""
    tracking.log_metrics(run_id, {f"{evaluation.split}_{k}": v for k, v in evaluation.recalls.as_metrics().items()})
    tracking.log_metrics(run_id, {f"{evaluation.split}_chance_rsum": evaluation.chance.rsum})
    tracking.client().log_text(run_id, evaluation.table() + "\n", f"evaluation_{evaluation.split}.md")


def _arguments(parser: Any) -> None:
    parser.add_argument(
        "--model-uri", type=str, required=True, help="models:/<name>@champion or models:/<name>/<version>"
    )
    parser.add_argument("--features", type=str, required=True, help="URI of a feature set")
    parser.add_argument("--split", type=str, default="test", help="train, val or test")


def main() -> None:
    """Command line."""
    arguments, config = cli.parse("evaluate", "Recalls of a registered model.", _arguments, ("tracking",))
    features = FeatureSet.open(arguments.features)
    split = features.split(arguments.split)
    shan = load_matcher(infra.tracking.connect(config.tracking), arguments.model_uri, features)
    print(evaluate(shan, arguments.model_uri, split).table())


if __name__ == "__main__":
    cli.run(main)
