"""Run directory of a training or sweep: claimed once per configuration, resumed by the process that holds its lease.

`<train.output>/<model name>-<12 hex>` is named by the hash of the configuration (`identity.py`). It holds:

- `lease-NNNNNN.json`: one object per process that has driven the run; the number is a fencing token. The first one
  claims the directory. The highest number holds the lease, and every other process must stop.
- `run.json`: format, MLflow run and identity; written once, after the claim.
- Ray Train's checkpoints (`checkpoint.py`) and its list of them.
- `finished.json`: format and result.
"""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from infra.canonical_json import canonical_json, load_object
from infra.errors import LeaseLostError, UserError
from infra.storage.base import Store
from infra.storage.conditional_writes import require_conditional_writes
from infra.storage.open import open_store, require_folder
from infra.tracking import Tracking
from pipelines.training.checkpoint import CHECKPOINT_NAME

FORMAT = "shan-run/1"
RUN, FINISHED = "run.json", "finished.json"

T = TypeVar("T")

CLAIM_S = 10.0
"""Seconds within which the process that claims a directory records its run; after that it counts as killed."""


@dataclass(frozen=True)
class RunDirectory:
    """Storage of one run."""

    store: Store
    root: str
    """`train.output`: an absolute path, or s3://bucket/prefix."""
    name: str

    @property
    def uri(self) -> str:
        """URI of the directory."""
        return self.store.uri

    def claim(self) -> "Lease":
        """Returns the first lease of this directory, which then belongs to one run.

        Raises UserError if it has a run already. A claim without a run is left by a process that was killed before it
        could create one; after CLAIM_S this process acquires the lease.
        """
        run_id = self.run_id()
        if run_id is None:
            require_conditional_writes(self.store)
            if self._create_lease(1):
                return Lease(self, 1)
        deadline = time.monotonic() + CLAIM_S
        while run_id is None and time.monotonic() < deadline:
            time.sleep(0.2)
            run_id = self.run_id()
        if run_id is None:
            return self.acquire_lease()
        raise self.exists_already(run_id)

    def exists_already(self, run_id: str) -> UserError:
        """Returns the error of a new training whose configuration has this MLflow run."""
        state = "has finished" if self.is_finished() else "exists"
        return UserError(
            f"{self.uri}: a run with this configuration {state} (run {run_id}); "
            "use --resume to continue it, or change train.seed or train.output to start a new one"
        )

    def is_claimed(self) -> bool:
        """Returns whether a process has claimed this directory."""
        return self.read(_lease_name(1)) is not None

    def acquire_lease(self) -> "Lease":
        """Returns a lease with the next fencing token; processes with earlier ones must stop."""
        require_conditional_writes(self.store)
        token = 1
        while not self._create_lease(token):
            token += 1
        return Lease(self, token)

    def _create_lease(self, token: int) -> bool:
        holder = {"host": socket.gethostname(), "process": os.getpid()}
        return self.store.put_if_absent(_lease_name(token), canonical_json(holder))

    def record_run(self, run_id: str, identity: dict[str, Any]) -> bool:
        """Writes the MLflow run of this directory. Returns False, and changes nothing, if one is recorded."""
        return self.store.put_if_absent(RUN, canonical_json({"format": FORMAT, "run": run_id, "identity": identity}))

    def run_id(self) -> str | None:
        """Returns the recorded MLflow run, or None. Raises UserError for another format and a corrupt record."""
        document = self._read_versioned(RUN)
        if document is not None and not isinstance(document.get("run"), str):
            raise self._corrupt(RUN)
        return None if document is None else str(document["run"])

    def record_result(self, result: dict[str, Any]) -> None:
        """Writes the result of the finished run."""
        self.store.replace(FINISHED, canonical_json({"format": FORMAT, **result}))

    def is_finished(self) -> bool:
        """Returns whether the run has a result. Raises UserError if that has another format."""
        return self._read_versioned(FINISHED) is not None

    def result(self, parse: Callable[[dict[str, Any]], T]) -> T | None:
        """Returns the parsed result of the finished run, or None.

        Raises UserError if it has another format, or if `parse` raises KeyError, TypeError or ValueError.
        """
        document = self._read_versioned(FINISHED)
        if document is None:
            return None
        del document["format"]
        try:
            return parse(document)
        except (KeyError, TypeError, ValueError) as error:
            raise self._corrupt(FINISHED) from error

    def _read_versioned(self, name: str) -> dict[str, Any] | None:
        document = self.read(name)
        if document is not None and document.get("format") != FORMAT:
            raise UserError(
                f"{self.uri}/{name}: format is {document.get('format')!r}, but this release reads {FORMAT!r}; use the "
                "release that wrote it, or another train.output"
            )
        return document

    def delete_checkpoints(self, is_wanted: Callable[[str], bool]) -> None:
        """Deletes the checkpoints that are not wanted, given their names. Other folders stay."""
        for name in self.store.objects():
            checkpoint, separator, _ = name.partition("/")
            if separator and CHECKPOINT_NAME.fullmatch(checkpoint) and not is_wanted(checkpoint):
                self.store.delete(name)

    def read(self, name: str) -> dict[str, Any] | None:
        """Returns a JSON object of the directory, or None if it does not exist. Raises UserError if it is corrupt."""
        try:
            return load_object(self.store.read(name))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise self._corrupt(name) from error

    def _corrupt(self, name: str) -> UserError:
        return UserError(f"{self.uri}/{name} is corrupt; delete the run directory to train again")


@dataclass(frozen=True)
class Lease:
    """Right of one process to drive a run. Lost when another process acquires a higher fencing token."""

    directory: RunDirectory
    token: int

    def is_lost(self) -> bool:
        """Returns whether another process has acquired the lease."""
        return self._successor() is not None

    def require(self) -> None:
        """Raises LeaseLostError if another process has acquired the lease; this one must not write any more."""
        if (holder := self._successor()) is not None:
            raise LeaseLostError(
                f"{self.directory.uri}: lost the lease: another process resumed this run "
                f"(process {holder.get('process')} on {holder.get('host')})"
            )

    def _successor(self) -> dict[str, Any] | None:
        return self.directory.read(_lease_name(self.token + 1))


def _lease_name(token: int) -> str:
    return f"lease-{token:06d}.json"


def open_run_directory(output: str, name: str) -> RunDirectory:
    """Returns the run directory of that name below `train.output`. Raises UserError if that cannot be written."""
    require_folder(output, "train.output")
    return RunDirectory(open_store(f"{output.rstrip('/')}/{name}"), output, name)


def open_run(lease: Lease, identity: dict[str, Any], tracking: Tracking, create: Callable[[], str]) -> str:
    """Returns the MLflow run of the lease's directory; creates and records one if it has none.

    Raises LeaseLostError if another process has acquired the lease. A run that cannot be recorded is FAILED.
    """
    directory = lease.directory
    if directory.run_id() is None:
        run_id = create()
        with tracking.closing(run_id):
            recorded = directory.record_run(run_id, identity)
        if not recorded:  # another process was faster
            tracking.client().delete_run(run_id)
    lease.require()
    found = directory.run_id()
    assert found is not None
    return found


def ray_path(location: str) -> str:
    """Returns a path, or an S3 URI, as Ray Train takes it: it decodes the percent-encoding of URIs, not of paths."""
    return quote(location, safe=":/") if "://" in location else location
