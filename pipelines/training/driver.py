"""The driver's part of a training: its place and its MLflow run, claimed or found again, and Ray Train on it."""

import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import infra.cluster
from infra.environment import environment
from infra.errors import UserError
from infra.progress import worker_bar
from infra.redaction import redact
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.training.checkpoint import PROGRESS, Progress, parse_progress
from pipelines.training.data import batches_of
from pipelines.training.run_directory import Place, Seat, place_of
from pipelines.training.setup import TrainingSetup
from shan_model.vocabulary import Vocabulary
from shan_model.word_vectors import read_word_vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from ray.train import Result, UserCallback


LOOKS = 5
"""At a record that is just being written, a second apart."""


@dataclass(frozen=True)
class PreparedTraining:
    """A training that can begin or go on."""

    features: FeatureSet
    setup: TrainingSetup
    place: Place
    run_id: str
    word_vectors: "NDArray[np.float32] | None"

    @property
    def lineage(self) -> dict[str, str]:
        """What its checkpoints and its version come from."""
        return {**self.features.lineage, "run": self.run_id, "dataset": self.features.dataset}


def prepare(
    features: FeatureSet,
    name: str,
    setup: TrainingSetup,
    tracking: Tracking,
    resume: bool | None,
    parent: str | None = None,
) -> PreparedTraining:
    """Finds or claims the place of a training, and its MLflow run, which `parent` may have below it.

    `resume` True goes on with a training that is there, False begins one, None does whichever is due. Raises UserError
    where that cannot be, and where the features do not fit the network.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise UserError(f"'{name}' is no name for a registered model; use letters, digits, '-', '_' and '.'")
    width = features.index["detector"]["feature_dim"]
    if width != setup.model.region_dim:
        raise UserError(f"{features.uri} has features of width {width}; set model.region_dim to {width}")
    for split in ("train", "val"):
        features.split(split)
    _ = batches_of(features.split("train"), setup.train).steps_per_epoch  # refuses a batch that cannot be filled
    infra.cluster.check_address(setup.cluster)
    setup, word_vectors = _with_word_vectors(features, setup)
    place = place_of(features, name, setup)
    run_id = _found_run(place, resume, tracking) or _claimed_run(place, tracking, name, features, setup, parent)
    return PreparedTraining(features, setup, place, run_id, word_vectors)


def _found_run(place: Place, resume: bool | None, tracking: Tracking) -> str | None:
    found = place.run_id()
    if found is None and resume:
        raise UserError(
            f"nothing to resume at {place.store.uri}: no training of exactly these features and settings began there; "
            "give the same ones, or leave --resume out to begin"
        )
    if found is not None and resume is False:
        done = "finished" if place.finished() else "begun"
        raise UserError(
            f"{place.store.uri}: this training was {done} already (run {found}); --resume goes on with it, another "
            "train.seed or train.output begins another"
        )
    if found is not None:
        tracking.require_run(found)
    return found


def _claimed_run(
    place: Place, tracking: Tracking, name: str, features: FeatureSet, setup: TrainingSetup, parent: str | None
) -> str:
    tags = {**{f"lineage.{k}": v for k, v in features.lineage.items()}, "feature_set_uri": features.uri}
    tags |= {"run_directory": place.store.uri, **({} if parent is None else {"mlflow.parentRunId": parent})}
    run_id = tracking.create_run(name, tags)
    told = replace(setup, tracking=replace(setup.tracking, uri=redact(setup.tracking.uri)))
    tracking.log_params(run_id, told.flat())
    tracking.client().log_dict(run_id, asdict(told), "config.yaml")
    tracking.client().log_dict(run_id, environment(), "environment.json")
    if not place.claim(run_id):  # last, so that a run that is gone on with has all that
        tracking.client().delete_run(run_id)
        raise UserError(f"{place.store.uri}: another process began this training just now; let it go on")
    return run_id


def _with_word_vectors(
    features: FeatureSet, setup: TrainingSetup
) -> "tuple[TrainingSetup, NDArray[np.float32] | None]":
    """The setup whose network has room for the vectors of `train.word_vectors`, and those of the training words."""
    if not setup.train.word_vectors:
        return setup, None
    captions = features.split("train").captions
    try:
        path = Path(setup.train.word_vectors)
        found = read_word_vectors(path, Vocabulary.build(captions, setup.train.min_word_count))
        model = replace(setup.model, fixed_word_dim=found.vectors_VE.shape[1])
    except ValueError as error:
        raise UserError(f"train.word_vectors: {error}") from error
    print(found.coverage(captions))
    return replace(setup, model=model), found.vectors_VE


def stored_progress(place: Place) -> Progress:
    """Of the last checkpoint on Ray Train's record; that of a beginning where there is none.

    A process that was just stopped may be renewing record and checkpoint, so a look that fails is taken again.
    UserError where there is half a record; what a store raises that is away or refuses comes as it is.
    """
    for _ in range(LOOKS):
        if (progress := _recorded_progress(place)) is not None:
            return progress
        time.sleep(1)
    raise UserError(
        f"{place.store.uri}: Ray Train's record of its checkpoints is damaged; delete the folder to train again"
    )


def _recorded_progress(place: Place) -> Progress | None:
    """None where record and checkpoint do not fit each other."""
    from ray.train import Result

    try:
        checkpoint = Result.from_path(f"{place.root.rstrip('/')}/{place.name}").checkpoint
    except RuntimeError:  # nothing is recorded yet
        return Progress()
    except OSError:
        raise
    except Exception:  # noqa: BLE001 of half a record Ray Train raises errors of its own
        return None
    if checkpoint is None:
        return Progress()
    fields = place.read(f"{PurePosixPath(checkpoint.path).name}/{PROGRESS}")
    return None if fields is None else parse_progress(fields)


def fit(
    prepared: PreparedTraining, tracking: Tracking, callbacks: "Sequence[UserCallback]" = ()
) -> "tuple[Result, Seat]":
    """Runs Ray Train to the end, from the last checkpoint if there is one; also gives this process's seat.

    UserError if it fails for good, LeaseLostError if another process goes on with the training.
    """
    from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    from pipelines.training.mlflow_callback import MlflowMetrics
    from pipelines.training.worker import TrainJob, steps_per_epoch, train_loop

    place, train = prepared.place, prepared.setup.train
    infra.cluster.connect(prepared.setup.cluster)
    seat = place.take()
    batches = batches_of(prepared.features.split("train"), train).steps_per_epoch
    with worker_bar("train", train.epochs * steps_per_epoch(batches, train), "step") as bar:
        job = TrainJob(
            features=f"{prepared.features.uri}@{prepared.features.lineage['feature_set'][:12]}",
            lineage=prepared.lineage,
            model=prepared.setup.model,
            train=train,
            cache=prepared.setup.cache,
            word_vectors=prepared.word_vectors,
            tracking=tracking,
            run_id=prepared.run_id,
            seat=seat,
            bar=bar,
        )
        trainer = TorchTrainer(
            train_loop,
            train_loop_config={"job": job},
            scaling_config=ScalingConfig(
                num_workers=(train.min_workers, train.num_workers) if train.min_workers else train.num_workers,
                use_gpu=train.use_gpu,
                resources_per_worker={"CPU": train.cpus_per_worker, **({"GPU": 1} if train.use_gpu else {})},
            ),
            run_config=RunConfig(
                name=place.name,
                storage_path=place.root,
                checkpoint_config=CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="score"),  # and the last
                failure_config=FailureConfig(max_failures=train.max_failures),
                logging_config=LoggingConfig(log_level="WARNING"),
                callbacks=[MlflowMetrics(tracking, prepared.run_id, bar), *callbacks],
            ),
        )
        try:
            result = trainer.fit()
        except TrainingFailedError as error:
            seat.require()
            said = str(error).strip().splitlines()[-1].strip()
            raise UserError(
                f"training failed for good ({said}); mend that, then --resume goes on from {place.store.uri}"
            ) from error
    seat.require()
    return result, seat
