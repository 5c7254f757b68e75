"""The models of the tables of SHAN's paper: trains each, evaluates it by the paper's protocol, and compares recalls.

Source of the figures: Ji, Chen, Wang, IJCAI 2021 (arXiv 2106.06509), tables 1 to 3.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import infra.cluster
from infra.cluster_resources import check_resources
from infra.errors import UserError
from infra.log import log
from infra.paths import is_file
from infra.progress import ProgressBar
from infra.storage.open import require_folder
from infra.tracking import Tracking
from pipelines.datasets.names import dataset_name
from pipelines.evaluation.ensemble import Ensemble
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.results import Evaluation
from pipelines.evaluation.score import scorer_request
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.features.feature_set import FeatureSet, MissingFeatureSetError
from pipelines.features.layout import INDEX, is_pinned
from pipelines.features.precomputed.scan import import_scan, split_shape
from pipelines.models.load import LoadedModel, load_model_for
from pipelines.reports.tables import Table
from pipelines.training.driver import workers_request
from pipelines.training.identity import settings_identity
from pipelines.training.inputs import check_width
from pipelines.training.setup import TrainingSetup
from pipelines.training.text_encoder import check_text_encoder
from pipelines.training.train import run_training
from shan_model.metrics import CUTS

_SHAN: dict[str, str | float] = {
    "matcher": "shan",
    "variant": "full",
    "levels": "l2l+g2l+g2g",
    "scan_pooling": "mean",
    "scan_lse_factor": 0.0,
}
MODELS = {
    "shan-t2i": _SHAN | {"variant": "t2i"},
    "shan-i2t": _SHAN | {"variant": "i2t"},
    "shan-full": _SHAN,
    "scan-t2i": _SHAN | {"matcher": "scan-t2i"},
    "scan-i2t": _SHAN | {"matcher": "scan-i2t", "scan_pooling": "lse"},
    "shan-t2i-l2l": _SHAN | {"variant": "t2i", "levels": "l2l"},
    "shan-t2i-l2l-g2l": _SHAN | {"variant": "t2i", "levels": "l2l+g2l"},
}
"""Fields of `model` by the name of each model. The poolings of SCAN are those of its published ensemble."""
MODEL_FIELDS = tuple(_SHAN)
"""Fields that define a model of the tables; no option or preset changes them."""
ENSEMBLE, MEMBERS = "ensemble", ("scan-t2i", "scan-i2t")
Published = tuple[str, str, float]
"""R@1, 5, 10 of image-to-text and of text-to-image retrieval, empty where only rSum is printed, and rSum."""
PAPER: dict[str, dict[str, Published]] = {
    "f30k-1k": {
        ENSEMBLE: ("67.4, 90.3, 95.8", "48.6, 77.7, 85.2", 465.0),
        "shan-t2i": ("72.5, 92.3, 95.8", "53.6, 78.6, 85.5", 478.3),
        "shan-i2t": ("70.6, 91.7, 95.5", "50.5, 77.1, 85.2", 470.6),
        "shan-full": ("74.6, 93.5, 96.9", "55.3, 81.3, 88.4", 490.0),
    },
    "coco-1k-5fold": {
        ENSEMBLE: ("72.7, 94.8, 98.4", "58.8, 88.4, 94.8", 507.9),
        "shan-t2i": ("75.9, 96.1, 98.7", "60.7, 88.2, 94.2", 513.8),
        "shan-i2t": ("73.0, 95.8, 97.9", "58.5, 87.3, 94.0", 506.5),
        "shan-full": ("76.8, 96.3, 98.7", "62.6, 89.6, 95.8", 519.8),
        "shan-t2i-l2l": ("", "", 504.4),
        "shan-t2i-l2l-g2l": ("", "", 510.5),
    },
}
"""Figures on `test` by protocol and model; the ensemble is that of MEMBERS, which have no row."""
HEADER = ["model", "figures", "image-to-text R@1, 5, 10", "text-to-image R@1, 5, 10", "rSum", "difference"]
WORD_VECTORS = (
    "the paper has vectors of width 300: on COCO, rSum of SHAN-T2I is 513.8 with them beside learnable ones, 510.2 "
    "with learnable ones only"
)
"""What the table of settings has for `train.word_vectors` in the column of the paper."""
_PROTOCOL_OF_SIZE = {1000: "f30k-1k", 5000: "coco-1k-5fold"}


def check_features(features: str, region_dim: int) -> None:
    """Raises UserError, before an import, for neither a feature set nor a folder in SCAN's format.

    Also if the paper has no figures for the size of `test`, and for features of another width than `region_dim`.
    """
    if not _is_scan(features):
        protocol_of(_opened(features))  # each training checks the width
        return
    images, width = split_shape(Path(features), "test")
    _published_protocol(features, images)
    check_width(features, width, region_dim)


def check_training(setup: TrainingSetup, score: ScoreConfig) -> None:
    """Raises UserError, before an import, for files, folders and a cluster that trainings or evaluations refuse."""
    check_text_encoder(setup)
    settings_identity(setup)  # reads the files that it names
    require_folder(setup.train.output, "train.output")
    infra.cluster.check_address(setup.cluster)
    scorers = [scorer_request(score)] if score.num_actors else []
    check_resources(setup.cluster, [workers_request(setup.train), *scorers])


def imported(features: str, root: str) -> FeatureSet:
    """Opens a feature set, or imports a folder in SCAN's format below `root`, where an earlier import is reused."""
    if not _is_scan(features):
        return _opened(features)
    folder = Path(features)
    with ProgressBar(desc="import", unit="photo") as bar:
        return import_scan(folder, root, dataset_name(folder.absolute().name), 32, bar.update).feature_set


def protocol_of(features: FeatureSet) -> str:
    """Returns the protocol for the size of `test`. Raises UserError if the paper has no figures for that size."""
    return _published_protocol(features.uri, len(features.captioned("test")))


def _is_scan(features: str) -> bool:
    return is_file(Path(features) / "train_ims.npy")


def _opened(features: str) -> FeatureSet:
    try:
        return FeatureSet.open(features)
    except MissingFeatureSetError as error:
        if is_pinned(features):
            raise
        raise UserError(
            f"--features {features} has neither {INDEX} of a feature set nor train_ims.npy of SCAN's features; give a "
            "finished feature set or a folder in SCAN's format"
        ) from error


def _published_protocol(where: str, photos: int) -> str:
    if photos not in _PROTOCOL_OF_SIZE:
        raise UserError(
            f"{where}: split 'test' has {photos} photos; use the published splits, 1,000 photos of Flickr30K or 5,000 "
            "of COCO"
        )
    return _PROTOCOL_OF_SIZE[photos]


def model_fields(model: str, protocol: str | None) -> dict[str, str | float]:
    """Returns MODEL_FIELDS of a model. On COCO, SCAN's published lambda2 of `scan-i2t` is 20."""
    on_coco = model == "scan-i2t" and protocol == "coco-1k-5fold"
    return MODELS[model] | ({"scan_lse_factor": 20.0} if on_coco else {})


def models_of(protocol: str) -> list[str]:
    """Returns the models for which the paper has figures, and the members of the ensemble."""
    return [model for model in MODELS if model in PAPER[protocol] or model in MEMBERS]


@dataclass(frozen=True)
class Reproduction:
    """Trainings and evaluations of some models on one feature set."""

    features: FeatureSet
    setup: TrainingSetup
    tracking: Tracking
    score: ScoreConfig
    device: str

    def train(self, model: str, protocol: str | None) -> LoadedModel:
        """Trains a model, resumes its training, or loads it if it has been trained with this setup."""
        name = f"{self.features.dataset}-{model}"
        setup = replace(self.setup, model=replace(self.setup.model, **model_fields(model, protocol)))  # type: ignore[arg-type]
        trained = run_training(self.features, name, setup, self.tracking, resume=None)
        log.info(f"{model}: models:/{name}/{trained.version}")
        return load_model_for(self.tracking, f"models:/{name}/{trained.version}", self.features, self.device)

    def evaluations(self, models: Sequence[str], protocol: str | None) -> Iterator[Evaluation]:
        """Trains each model and yields its evaluation, at last that of the ensemble if both members are given."""
        split, ensemble = self.features.captioned("test"), Ensemble()
        for name in models:
            model, to = self.train(name, protocol), None
            if name in MEMBERS:
                ensemble.include(model)
                to = ensemble
            yield (last := evaluate(model.shan, name, split, self.score, self.setup.cluster, protocol, to))
        if set(models) >= set(MEMBERS):
            yield ensemble.evaluation(last)


def reproduce(reproduction: Reproduction, models: Sequence[str], protocol: str | None) -> Iterator[Table]:
    """Trains and evaluates the models. Yields, after each, the recalls of those before, with a protocol the paper's."""
    published, rows = PAPER[protocol] if protocol else {}, list[list[str]]()
    for evaluation in reproduction.evaluations(models, protocol):
        rows += comparison_rows(evaluation, published.get(evaluation.model))
        yield Table(f"{reproduction.features.dataset}, {protocol or 'one gallery'}, on test", HEADER, tuple(rows))


def comparison_rows(evaluation: Evaluation, published: Published | None) -> list[list[str]]:
    """Returns a row of the recalls and rSum of a model, and one of those in the paper if it has any."""
    recalls = [f"{value:.1f}" for value in evaluation.recalls.as_metrics().values()]
    image_to_text, text_to_image = ", ".join(recalls[: len(CUTS)]), ", ".join(recalls[len(CUTS) : 2 * len(CUTS)])
    rsum = evaluation.metrics["rsum"]
    here = [evaluation.model, "here", image_to_text, text_to_image, f"{rsum:.1f}"]
    if published is None:
        return [[*here, ""]]
    *directions, of_paper = published
    return [
        [*here, f"{rsum - of_paper:+.1f}"],
        [evaluation.model, "paper", *directions, f"{of_paper:.1f}", ""],
    ]


def settings_table(setup: TrainingSetup, preset: TrainingSetup) -> Table:
    """Returns the word vectors, and all other settings that affect a model and differ from the preset `paper`."""
    rows = [["train.word_vectors", setup.train.word_vectors or "none", WORD_VECTORS]]
    known = {*MODEL_FIELDS, "word_vectors", "fixed_word_dim"}  # the file sets the width
    model = ("model", asdict(setup.model), preset.model)
    train = ("train", setup.train.result_fields(), preset.train)
    for section, values, of_preset in (model, train):
        rows += [
            [f"{section}.{name}", str(value) or "none", str(getattr(of_preset, name)) or "none"]
            for name, value in values.items()
            if name not in known and value != getattr(of_preset, name)
        ]
    return Table(
        "word vectors, and settings that differ from the preset paper", ["field", "here", "preset paper"], rows
    )
