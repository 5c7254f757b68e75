"""The models of the tables of SHAN's paper: trains each, evaluates it by the paper's protocol, and compares rSum.

Source of the figures: Ji, Chen, Wang, IJCAI 2021 (arXiv 2106.06509), tables 1 to 3.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from infra.errors import UserError
from infra.log import log
from infra.paths import is_file
from infra.progress import ProgressBar
from infra.tracking import Tracking
from pipelines.datasets.names import dataset_name
from pipelines.evaluation.ensemble import Ensemble
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.results import Evaluation
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.features.precomputed.scan import import_scan
from pipelines.models.load import LoadedModel, load_model_for
from pipelines.reports.tables import Table
from pipelines.training.setup import TrainingSetup
from pipelines.training.train import run_training
from shan_model.metrics import CUTS

MODELS = {
    "shan-t2i": {"variant": "t2i"},
    "shan-i2t": {"variant": "i2t"},
    "shan-full": {"variant": "full"},
    "scan-t2i": {"matcher": "scan-t2i"},
    "scan-i2t": {"matcher": "scan-i2t"},
    "shan-t2i-l2l": {"variant": "t2i", "levels": "l2l"},
    "shan-t2i-l2l-g2l": {"variant": "t2i", "levels": "l2l+g2l"},
}
"""Fields of `model` by the name of each model."""
ENSEMBLE, MEMBERS = "ensemble", ("scan-t2i", "scan-i2t")
PAPER_RSUM = {
    "f30k-1k": {"shan-t2i": 478.3, "shan-i2t": 470.6, "shan-full": 490.0, ENSEMBLE: 465.0},
    "coco-1k-5fold": {
        "shan-t2i": 513.8, "shan-i2t": 506.5, "shan-full": 519.8, ENSEMBLE: 507.9,
        "shan-t2i-l2l": 504.4, "shan-t2i-l2l-g2l": 510.5,
    },
}  # fmt: skip
"""Sum of the six recalls on `test` by protocol and model; the ensemble is that of MEMBERS, which have no row."""
HEADER = ["model", "image-to-text R@1, 5, 10", "text-to-image R@1, 5, 10", "rSum", "rSum of the paper", "difference"]
_PROTOCOL_OF_SIZE = {1000: "f30k-1k", 5000: "coco-1k-5fold"}


def imported(features: str, root: str) -> FeatureSet:
    """Opens a feature set, or imports a folder in SCAN's format below `root`, where an earlier import is reused."""
    folder = Path(features)
    if not is_file(folder / "train_ims.npy"):
        return FeatureSet.open(features)
    with ProgressBar(desc="import", unit="photo") as bar:
        return import_scan(folder, root, dataset_name(folder.absolute().name), 32, bar.update).feature_set


def protocol_of(features: FeatureSet) -> str:
    """Returns the protocol for the size of `test`. Raises UserError if the paper has no figures for that size."""
    photos = len(features.captioned("test"))
    if photos not in _PROTOCOL_OF_SIZE:
        raise UserError(
            f"{features.uri}: split 'test' has {photos} photos; use the published splits, 1,000 photos of "
            "Flickr30K or 5,000 of COCO"
        )
    return _PROTOCOL_OF_SIZE[photos]


def models_of(protocol: str) -> list[str]:
    """Returns the models for which the paper has figures, and the members of the ensemble."""
    return [model for model in MODELS if model in PAPER_RSUM[protocol] or model in MEMBERS]


@dataclass(frozen=True)
class Reproduction:
    """Trainings and evaluations of some models on one feature set."""

    features: FeatureSet
    setup: TrainingSetup
    tracking: Tracking
    score: ScoreConfig
    device: str

    def train(self, model: str) -> LoadedModel:
        """Trains a model, resumes its training, or loads it if it has been trained with this setup."""
        name = f"{self.features.dataset}-{model}"
        setup = replace(self.setup, model=replace(self.setup.model, **MODELS[model]))  # type: ignore[arg-type]
        trained = run_training(self.features, name, setup, self.tracking, resume=None)
        log.info(f"{model}: models:/{name}/{trained.version}")
        return load_model_for(self.tracking, f"models:/{name}/{trained.version}", self.features, self.device)

    def evaluate(self, models: dict[str, LoadedModel], protocol: str | None) -> Iterator[Evaluation]:
        """Yields the evaluation of each model by its name, then that of the ensemble if both members are given."""
        split = self.features.captioned("test")
        ensemble = Ensemble([models[member] for member in MEMBERS]) if models.keys() >= set(MEMBERS) else None
        for name, model in models.items():
            to = ensemble if name in MEMBERS else None
            yield (last := evaluate(model.shan, name, split, self.score, self.setup.cluster, protocol, to))
        if ensemble is not None:
            yield ensemble.evaluation(last)


def reproduce(reproduction: Reproduction, models: Sequence[str], protocol: str | None) -> Table:
    """Trains and evaluates the models, and returns their recalls, with a protocol beside the paper's rSum."""
    trained = {model: reproduction.train(model) for model in models}
    paper = PAPER_RSUM[protocol] if protocol else {}
    rows = [row(evaluation, paper) for evaluation in reproduction.evaluate(trained, protocol)]
    return Table(f"{reproduction.features.dataset}, {protocol or 'one gallery'}, on test", HEADER, rows)


def row(evaluation: Evaluation, paper: Mapping[str, float]) -> list[str]:
    """Returns the six recalls and rSum of a model, the paper's rSum, and the difference."""
    recalls = list(evaluation.recalls.as_metrics().values())
    directions = (
        ", ".join(f"{value:.1f}" for value in each) for each in (recalls[: len(CUTS)], recalls[len(CUTS) : 6])
    )
    rsum = evaluation.metrics["rsum"]
    published = paper.get(evaluation.model)
    compared = ["", ""] if published is None else [f"{published:.1f}", f"{rsum - published:+.1f}"]
    return [evaluation.model, *directions, f"{rsum:.1f}", *compared]
