"""What a pipeline runs with, and what it checks before it writes anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

import infra.cluster
import infra.tracking
from infra.cluster_resources import check_resources
from infra.errors import UserError
from infra.registry import champion_version
from infra.storage.conditional_writes import require_conditional_writes
from infra.storage.open import open_store, require_folder
from infra.tracking import Tracking
from pipelines.datasets.manifest import Manifest
from pipelines.detectors import registry
from pipelines.evaluation.comparison import ComparisonData, own_features
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.score import scorer_request
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.missing_photos import check_missing_photos
from pipelines.features.feature_set import FeatureSet
from pipelines.features.pairing import require_pairable
from pipelines.search.candidate_search import faiss
from pipelines.search.config import IndexConfig
from pipelines.search.index_build import actors_request
from pipelines.training.driver import workers_request
from pipelines.training.epoch_size import batches_per_epoch
from pipelines.training.identity import settings_identity
from pipelines.training.inputs import check_name, require_dataset_of_model
from pipelines.training.setup import TrainingSetup
from pipelines.training.text_encoder import check_text_encoder

Stage = Literal["extract", "train", "evaluate", "promote", "index"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""In their order; each uses the results of those before it."""


@dataclass(frozen=True)
class PipelineSetup:
    """The config sections that the stages read, and the last stage to run."""

    extract: ExtractConfig
    training: TrainingSetup
    """Its tracking store and cluster serve all stages."""
    score: ScoreConfig
    promote: PromoteConfig
    index: IndexConfig
    until: Stage = "promote"
    champion_features: FeatureSet | None = None
    """The feature set for a champion with another detector; None finds the one that it was trained on."""
    intersect: bool = False
    """Whether photos that only the new version or only the champion has features of are left out of the comparison."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages up to the last one."""
        return STAGES[: STAGES.index(self.until) + 1]

    def runs(self, stage: Stage) -> bool:
        """Returns whether a stage is not after the last one."""
        return stage in self.stages

    def comparison(self, features: FeatureSet) -> ComparisonData:
        """Returns what a version that was trained on `features` is compared on with the champion."""
        return ComparisonData(features, self.champion_features, self.intersect)

    def splits(self) -> list[str]:
        """Returns the splits that the stages read."""
        of_stages: dict[Stage, tuple[str, ...]] = {
            "train": ("train", "val"),
            "evaluate": ("test",),
            "promote": (self.promote.split,),
        }
        return list(dict.fromkeys(split for stage in of_stages if self.runs(stage) for split in of_stages[stage]))


@dataclass(frozen=True)
class PipelineData:
    """What is known about a data set before its photos are read."""

    name: str
    subject: str
    """How messages name its train split."""
    captions_per_photo: NDArray[np.int64]
    """Number of captions of each photo of the train split."""
    compared: Mapping[str, tuple[str, ...]] | None = None
    """Captions of the captioned photos of split `promote.split`, by key; None if they are not known yet."""

    @classmethod
    def of(cls, manifest: Manifest, setup: PipelineSetup) -> "PipelineData":
        """Raises UserError if too many photos do not exist, or a split that the stages need has none with captions."""
        check_missing_photos(manifest, setup.extract.max_rejected)
        for split in setup.splits():
            if not any(photo.captions for photo in manifest.photos(split)):
                raise UserError(
                    f"data set {manifest.name}: no photo with captions is in split '{split}', which is needed up to "
                    f"stage {setup.until}; add some to that split"
                )
        counts = np.array([len(photo.captions) for photo in manifest.photos("train") if photo.captions])
        compared = {photo.key: photo.captions for photo in manifest.photos(setup.promote.split) if photo.captions}
        return cls(manifest.name, f"split 'train' of data set {manifest.name}", counts, compared)


def check_pipeline(name: str, data: PipelineData, setup: PipelineSetup) -> Tracking | None:
    """Raises UserError for what a stage would refuse; nothing is written.

    `name` is that of the registered model. Returns the tracking store, or None if its file does not exist or no stage
    needs it.
    """
    training = setup.training
    if setup.runs("index"):
        faiss()
        require_folder(setup.index.output, "index.output")
    if setup.runs("train"):
        check_name(name)
        _require_trainable(data, setup)
    infra.cluster.check_address(training.cluster)
    require_folder(setup.extract.output, "extract.output")
    require_folder(training.train.output, "train.output")
    tracking = infra.tracking.find_store(training.tracking) if setup.runs("train") else None
    if tracking is not None:
        require_dataset_of_model(tracking, name, data.name)
    if tracking is not None and setup.runs("promote"):
        _require_comparable(tracking, name, data, setup)
    _require_resources(setup)
    return tracking


def require_output_stores(setup: PipelineSetup) -> None:
    """Raises UserError, before long work, if a store of a later stage lacks conditional writes.

    Puts an object into a bucket and deletes it. The extraction checks its own store.
    """
    outputs: dict[Stage, str] = {"train": setup.training.train.output, "index": setup.index.output}
    for stage, output in outputs.items():
        if setup.runs(stage):
            require_conditional_writes(open_store(output))


def _require_resources(setup: PipelineSetup) -> None:
    """Raises UserError before the extraction if the cluster cannot run the processes of a later stage."""
    requests = []
    if setup.runs("train"):
        requests.append(workers_request(setup.training.train))
    if setup.runs("evaluate") and setup.score.num_actors:
        requests.append(scorer_request(setup.score))
    if setup.runs("index"):
        requests.append(actors_request(setup.index, 1))
    check_resources(setup.training.cluster, requests)


def _require_comparable(tracking: Tracking, name: str, data: PipelineData, setup: PipelineSetup) -> None:
    """Raises UserError if the new version could not be compared with the champion on the same photos."""
    champion = champion_version(tracking, name)
    if champion is None:
        return
    fingerprint = registry.fingerprint(setup.extract.detector, setup.extract.spec())
    own = own_features(tracking, name, champion, fingerprint, setup.champion_features)
    if own is not None and data.compared is not None:
        require_pairable(data.name, data.compared, own, setup.promote.split, setup.intersect)


def _require_trainable(data: PipelineData, setup: PipelineSetup) -> None:
    """Raises UserError if the training would refuse the data set, the width of the features or a file."""
    batches_per_epoch(data.captions_per_photo, setup.training.train, data.subject)
    width, region_dim = setup.extract.spec().feature_dim, setup.training.model.region_dim
    if width != region_dim:
        raise UserError(
            f"extract.detector {setup.extract.detector} gives features of width {width}, but model.region_dim is "
            f"{region_dim}; set model.region_dim to {width}"
        )
    check_text_encoder(setup.training)
    settings_identity(setup.training)  # reads the files that it names
