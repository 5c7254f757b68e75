"""Claims the run directory of a training, and creates its MLflow run."""

from dataclasses import asdict, dataclass

from infra.environment import environment
from infra.errors import UserError
from infra.tracking import Tracking
from pipelines.features.mlflow_lineage import log_datasets, run_tags
from pipelines.training.inputs import TrainingInputs
from pipelines.training.run_directory import Lease, RunDirectory, open_run
from pipelines.training.stored_progress import stored_progress

DATASETS = {"train": "training", "val": "validation"}
"""The splits that a training reads, and what for, as MLflow names it."""


@dataclass(frozen=True)
class ClaimedTraining:
    """A training whose run directory and MLflow run belong to this process."""

    inputs: TrainingInputs
    lease: Lease
    run_id: str
    step: int = 0
    """Step of the checkpoint from which it resumes; 0 of a new one."""

    @property
    def lineage(self) -> dict[str, str]:
        """Origin of its checkpoints and of the registered version."""
        features = self.inputs.features
        return {**features.lineage, "run": self.run_id, "dataset": features.dataset}


def check_resume(directory: RunDirectory, resume: bool | None) -> None:
    """Raises UserError if the run that `resume` requires does not exist, or the one that it forbids exists.

    `resume` True requires an existing run, False a new one, None accepts both. Called before the cluster is joined,
    where a training may wait for resources.
    """
    if resume and not directory.is_claimed():
        raise UserError(
            f"{directory.uri}: there is no run to resume with exactly these features and settings; "
            "check them against the first command, or omit --resume to start a new run"
        )
    if resume is False and (run_id := directory.run_id()) is not None:
        raise directory.exists_already(run_id)


def claim_training(
    inputs: TrainingInputs, tracking: Tracking, resume: bool | None, parent: str | None = None
) -> ClaimedTraining:
    """Claims the run directory, or acquires its lease, and creates the MLflow run if the directory has none.

    `resume` has passed `check_resume`. `parent` is the MLflow run of a sweep. Raises UserError if the run cannot be
    read, or if it exists although `resume` is False: another process may have been faster.
    """
    directory, step = inputs.directory, 0
    if resume is False:
        lease = directory.claim()
    else:
        if (found := directory.run_id()) is not None:
            tracking.require_active_run(found)
            step = stored_progress(directory).step  # raises for a format that cannot be read
        lease = directory.acquire_lease()
    run_id = open_run(lease, inputs.identity, tracking, lambda: _create_run(inputs, tracking, parent))
    with tracking.closing(run_id, lease.is_lost):
        _log_setup(tracking, run_id, inputs, lease)
    return ClaimedTraining(inputs, lease, run_id, step)


def _create_run(inputs: TrainingInputs, tracking: Tracking, parent: str | None) -> str:
    tags = run_tags(inputs.features) | {"run_directory": inputs.directory.uri}
    if parent is not None:
        tags["mlflow.parentRunId"] = parent
    return tracking.create_run(inputs.name, tags)


def _log_setup(tracking: Tracking, run_id: str, inputs: TrainingInputs, lease: Lease) -> None:
    """Logs datasets, configuration and environment to a new run, and those of a resumed session beside the first.

    Parameters come last: their presence means that logging is complete. Raises LeaseLostError if another process has
    acquired the lease while a request waited for the server.
    """
    client, setup = tracking.client(), inputs.setup.redacted()
    if client.get_run(run_id).data.params:
        client.log_dict(run_id, asdict(setup), f"config-lease-{lease.token:06d}.yaml")
        client.log_dict(run_id, environment(), f"environment-lease-{lease.token:06d}.json")
        return
    log_datasets(tracking, run_id, inputs.features, DATASETS)
    lease.require()
    client.log_dict(run_id, asdict(setup), "config.yaml")
    client.log_dict(run_id, environment(), "environment.json")
    lease.require()
    tracking.log_params(run_id, setup.flat())
