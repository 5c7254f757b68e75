"""Writes checkpoints on the node of the first rank and uploads them to the run directory."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import ray.train

from infra.errors import UserError
from infra.metrics import CHECKPOINT_SECONDS
from infra.storage.disk import names_full_disk, names_tmpdir, tmpdir
from pipelines.training.checkpoint import TrainState, write_validation
from pipelines.training.checkpoint_metrics import FAILED_UPLOAD
from pipelines.training.run_directory import Lease


class CheckpointWriter:
    """Writes checkpoints of one run into temporary folders, and uploads them while training continues."""

    def __init__(self, lease: Lease, run_id: str, lineage: dict[str, str]) -> None:
        """Removes the temporary folders that an earlier worker of this run left on this node when it was killed."""
        self._lease, self._lineage = lease, lineage
        self._prefix = f"shan-checkpoint-{run_id}-"
        for left in Path(tmpdir()).glob(f"{self._prefix}*"):
            shutil.rmtree(left, ignore_errors=True)

    def write(self, state: TrainState, validation: dict[str, Any] | None) -> ray.train.Checkpoint:
        """Returns a checkpoint on this node. Raises UserError if the disk is full or the state is not finite."""
        with names_tmpdir():
            folder = Path(tempfile.mkdtemp(prefix=self._prefix))
        try:
            with names_full_disk(folder, "free space, or set TMPDIR on this node to a folder on a larger disk"):
                state.save(folder, self._lineage)
                if validation is not None:
                    write_validation(folder, validation)
        except BaseException:
            shutil.rmtree(folder)
            raise
        return ray.train.Checkpoint.from_directory(str(folder))

    def upload(self, checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        """Uploads as Ray Train does by default, then requires the lease: after this Ray Train updates its list and
        deletes older checkpoints, which would corrupt the run of a process that has resumed it meanwhile.

        Raises LeaseLostError, and UserError if the disk of the run directory is full; nothing of the checkpoint stays.
        """
        directory, start = self._lease.directory, time.perf_counter()
        try:
            with names_full_disk(f"{directory.uri}/{name}"):
                stored: ray.train.Checkpoint = (
                    ray.train.get_context().get_storage().persist_current_checkpoint(checkpoint, name)
                )
        except BaseException as error:
            vars(error)[FAILED_UPLOAD] = name
            if not isinstance(error, UserError):
                raise
            directory.delete_checkpoints(lambda other: other != name)
            shutil.rmtree(checkpoint.path, ignore_errors=True)
            raise
        CHECKPOINT_SECONDS.observe(time.perf_counter() - start)
        self._lease.require()
        return stored
