"""The inputs of a training: validated and resolved before anything is written."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import infra.cluster
from infra.errors import UserError
from infra.log import log
from infra.paths import is_file
from infra.registry import name_filter
from infra.storage.folder import FolderStore
from infra.tracking import Tracking
from pipelines.datasets.names import dataset_name
from pipelines.features.feature_set import FeatureSet
from pipelines.features.split import Split
from pipelines.features.texts import Texts
from pipelines.training.data import batches_of
from pipelines.training.identity import directory_name, training_identity
from pipelines.training.ignored_options import ignored_options
from pipelines.training.run_directory import RunDirectory, open_run_directory
from pipelines.training.setup import TrainingSetup
from pipelines.training.text_encoder import check_text_encoder
from shan_model.vocabulary import Vocabulary
from shan_model.word_vectors import WordVectorsError, read_word_vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainingInputs:
    """Validated inputs of a training."""

    features: FeatureSet
    name: str
    """Name of the registered model."""
    setup: TrainingSetup
    """Its model has the width of the word vectors."""
    word_vectors: "NDArray[np.float32] | None"
    """One row per word of the vocabulary."""
    identity: dict[str, Any]
    directory: RunDirectory


def check_width(features: str, width: int, region_dim: int) -> None:
    """Raises UserError if the network of a training does not take features of this width."""
    if width != region_dim:
        raise UserError(
            f"{features} has features of width {width}, but model.region_dim is {region_dim}; "
            f"set model.region_dim to {width}"
        )


def check_setup(train: Split, width: int, name: str, setup: TrainingSetup) -> None:
    """Raises UserError for an invalid name, features that do not fit the network, no full batch, and unusable files.

    `width` is the width of the features.
    """
    check_name(name)
    check_width(train.store.uri, width, setup.model.region_dim)
    _ = batches_of(train, setup.train).batches_per_epoch
    if setup.train.word_vectors and not is_file(Path(setup.train.word_vectors)):
        path = setup.train.word_vectors
        raise UserError(f"train.word_vectors '{path}' cannot be read (No such file or directory); correct the path")
    check_text_encoder(setup)


def check_name(name: str) -> None:
    """Raises UserError for a name that a registered model and its run directories cannot have."""
    if not name or dataset_name(name.replace(".", "_")) != name.replace(".", "_"):
        raise UserError(f"--name '{name}' is not a valid model name; it may contain letters, digits, '-', '_' and '.'")


def resolve_inputs(features: FeatureSet, name: str, setup: TrainingSetup) -> TrainingInputs:
    """Returns the inputs of a training. Writes nothing.

    Raises UserError as `check_setup` does, and if a file is invalid or the cluster or `train.output` cannot be reached.
    Warns of options without effect.
    """
    train = features.captioned("train")
    check_setup(train, features.index.detector.feature_dim, name, setup)
    features.captioned("val")
    infra.cluster.check_address(setup.cluster)
    setup, word_vectors = with_word_vectors(train.captions, setup)
    for sentence in ignored_options(setup, reads_in_place=isinstance(features.store, FolderStore)):
        log.warning(sentence)
    identity = training_identity(features, setup)
    directory = open_run_directory(setup.train.output, directory_name(name, identity))
    return TrainingInputs(features, name, setup, word_vectors, identity, directory)


def find_run_directory(features: FeatureSet, name: str, setup: TrainingSetup) -> RunDirectory:
    """Returns the run directory that a training with these inputs has, or would get. Writes nothing."""
    setup, _ = with_word_vectors(features.split("train").captions, setup)
    return open_run_directory(setup.train.output, directory_name(name, training_identity(features, setup)))


def require_dataset_of_model(tracking: Tracking, name: str, dataset: str) -> None:
    """Raises UserError if the registered model has versions, but only of other data sets: they are another model's."""
    versions = tracking.client().search_model_versions(name_filter(name))
    datasets = {version.tags["dataset"] for version in versions if "dataset" in version.tags}
    if datasets and dataset not in datasets:
        raise UserError(
            f"the registered model '{name}' belongs to another data set, {', '.join(sorted(datasets))}; give the model "
            f"of {dataset} another name"
        )


def with_word_vectors(captions: Texts, setup: TrainingSetup) -> "tuple[TrainingSetup, NDArray[np.float32] | None]":
    """Returns the setup with the width of `train.word_vectors`, and the vectors of the vocabulary's words."""
    if not setup.train.word_vectors:
        return setup, None
    try:
        path = Path(setup.train.word_vectors)
        found = read_word_vectors(path, Vocabulary.build(captions, setup.train.min_word_count))
    except WordVectorsError as error:
        raise UserError(f"train.word_vectors: {error}") from error
    width = found.vectors_VE.shape[1]
    if setup.model.fixed_word_dim not in (0, width):
        raise UserError(
            f"model.fixed_word_dim is {setup.model.fixed_word_dim}, but train.word_vectors '{path}' has vectors of "
            f"width {width}; omit model.fixed_word_dim"
        )
    model = replace(setup.model, fixed_word_dim=width)
    print(found.coverage(captions))
    return replace(setup, model=model), found.vectors_VE
