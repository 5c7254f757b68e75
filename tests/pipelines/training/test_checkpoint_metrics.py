"""The metrics of a training, scraped from its run, in which the upload of a checkpoint fails at first."""

import threading
from dataclasses import replace

import pytest

from infra.errors import UserError
from infra.metrics import (
    CACHE_SHARDS,
    CHECKPOINT_FAILURES,
    CHECKPOINT_SECONDS,
    CHECKPOINTS,
    MFU_RATIO,
    TRAINING_CAPTIONS,
    TRAINING_STEP,
    TRAINING_STEPS,
)
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.training.inputs import resolve_inputs
from pipelines.training.setup import TrainingSetup
from pipelines.training.train import run_training
from tests.support.processes import wait_until
from tests.support.scrape import Scraped

UPLOADS = f"{CHECKPOINT_SECONDS.exported}_count"
COUNTED = (TRAINING_STEPS, TRAINING_CAPTIONS, CHECKPOINTS, CHECKPOINT_FAILURES)


@pytest.mark.long  # tests/e2e/test_train_options.py has those of a training without failures
@pytest.mark.usefixtures("ray_session")
def test_all_metrics_of_a_training_are_scraped(features: FeatureSet, setup: TrainingSetup, tracking: Tracking):
    """A file is where the first checkpoint belongs until its failed upload is scraped; the workers start again."""
    setup = replace(setup, train=replace(setup.train, num_workers=1, epochs=2))
    directory, obstacle = resolve_inputs(features, "metered", setup).directory, "epoch-001-lease-000001"
    directory.store.put_if_absent(obstacle, b"")
    with Scraped() as scraped:
        before = {name: scraped.total(name) for name in (*(metric.exported for metric in COUNTED), UPLOADS)}

        def counted(name: str) -> float:
            return scraped.total(name) - before[name]

        def remove_obstacle() -> None:
            wait_until(lambda: counted(CHECKPOINT_FAILURES.exported) == 1, 120)
            directory.store.delete(obstacle)

        remover = threading.Thread(target=remove_obstacle)
        remover.start()
        trained = run_training(features, "metered", setup, tracking)
        remover.join()
        scraped.require("shan_training_", {MFU_RATIO.name, CACHE_SHARDS.name})  # of GPUs, and of object storage
        wait_until(lambda: counted(CHECKPOINTS.exported) == 2, 30)
        assert counted(UPLOADS) in (2, 3)  # that of the second epoch may end before the failure of the first is seen
        assert counted(CHECKPOINT_FAILURES.exported) == 1
        steps = scraped.total(TRAINING_STEP.exported, run=trained.run_id)
        assert steps == 2 * 3  # epochs of 12 captions
        assert counted(TRAINING_STEPS.exported) in (1.5 * steps, 2 * steps)  # one or two epochs before the failure
        assert counted(TRAINING_CAPTIONS.exported) == setup.train.batch_size * counted(TRAINING_STEPS.exported)


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_a_failed_upload_that_ends_a_training_is_scraped(
    features: FeatureSet, setup: TrainingSetup, tracking: Tracking
):
    setup = replace(setup, train=replace(setup.train, num_workers=1, epochs=1, max_failures=0))
    resolve_inputs(features, "metered", setup).directory.store.put_if_absent("epoch-001-lease-000001", b"")
    with Scraped() as scraped:
        before = scraped.total(CHECKPOINT_FAILURES.exported)
        with pytest.raises(UserError, match=r"training failed after 0 retries \(.*epoch-001-lease-000001"):
            run_training(features, "metered", setup, tracking)
        wait_until(lambda: scraped.total(CHECKPOINT_FAILURES.exported) == before + 1, 30)
