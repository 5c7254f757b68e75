"""Progress of a training that is not running, from its run directory."""

import time
from pathlib import PurePosixPath

from infra.errors import StorageError, UserError
from pipelines.training.checkpoint import PROGRESS, TrainingProgress, parse_progress
from pipelines.training.run_directory import RunDirectory, ray_path

ATTEMPTS = 5
"""Reads of a list that may just be written, a second apart."""


def stored_progress(directory: RunDirectory) -> TrainingProgress:
    """Returns the progress at the last checkpoint that Ray Train lists, or that of a new training.

    A process that was just killed may still be replacing the list and its checkpoint, so a failed read is repeated.
    Raises UserError if the list stays corrupt or the checkpoint has an unknown format, and StorageError if the store
    fails.
    """
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(1)
        if (progress := _listed_progress(directory)) is not None:
            return progress
    raise UserError(
        f"{directory.uri}: Ray Train's list of the checkpoints is corrupt; delete the run directory to train again"
    )


def _listed_progress(directory: RunDirectory) -> TrainingProgress | None:
    """Returns None if the list cannot be parsed or names a checkpoint that does not exist."""
    from ray.train import Result

    try:
        checkpoint = Result.from_path(ray_path(f"{directory.root.rstrip('/')}/{directory.name}")).checkpoint
    except RuntimeError:  # no checkpoint is listed yet
        return TrainingProgress()
    except OSError as error:
        raise StorageError(f"{directory.uri}: {' '.join(str(error).split())}") from error
    except Exception:  # noqa: BLE001 Ray Train raises its own errors for a truncated list
        return None
    if checkpoint is None:
        return TrainingProgress()
    name = f"{PurePosixPath(checkpoint.path).name}/{PROGRESS}"
    document = directory.read(name)
    return None if document is None else parse_progress(document, f"{directory.uri}/{name}")
