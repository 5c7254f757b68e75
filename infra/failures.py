"""The record of failed work beside its results: the error, the last messages of the job, and the command to resume it.

A feature set and a search index keep it as the object OBJECT until they are complete, an MLflow run as the tag TAG,
which counts while the run is FAILED or KILLED. `jobs.status --failed` shows it.
"""

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from infra.canonical_json import load_object, require_fields, typed
from infra.errors import StorageError, UserError
from infra.log import bound, recent
from infra.redaction import redact
from infra.storage.base import Store

OBJECT = "failure.json"
TAG = "failure"
MAX_CHARS = 5000
"""Length of a record; MLflow limits tags to 8,000 bytes, some of its databases to 5,000 characters."""
MAX_LINE = 500
"""Characters of a line of the log."""
TRACEBACK_LINES = 10


@dataclass(frozen=True)
class Failure:
    """A job that failed or was interrupted."""

    time: str
    """UTC, in ISO format."""
    error: str
    command: str
    """Redacted command line; empty if the work was not started by a command."""
    log: list[str]
    """Last messages and events, the oldest first; of a defect, also the end of its traceback."""

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Returns the failure of this process by an exception."""
        is_interrupt = isinstance(error, KeyboardInterrupt)
        known = is_interrupt or isinstance(error, UserError | StorageError)
        name = "interrupted" if is_interrupt else "" if known else type(error).__name__
        reason = ": ".join(filter(None, [name, str(error)]))
        lines = recent()
        if not known:
            lines += "".join(traceback.format_exception(error)).splitlines()[-TRACEBACK_LINES:]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(now, redact(reason)[:1000], bound("command"), [redact(line)[:MAX_LINE] for line in lines])

    @classmethod
    def parse(cls, data: bytes) -> "Failure":
        """Returns a stored record. Raises ValueError for other data."""
        document = load_object(data)
        require_fields(document, cls)
        for name in ("time", "error", "command"):
            typed(document, name, str)
        return cls(**document | {"log": [str(line) for line in typed(document, "log", list)]})

    def to_json(self) -> str:
        """Returns the record as JSON of at most about MAX_CHARS characters: the oldest lines are left out."""
        text = json.dumps(asdict(self))
        if len(text) <= MAX_CHARS or not self.log:
            return text
        return replace(self, log=self.log[1:]).to_json()


@contextmanager
def recorded_failure(store: Store) -> Iterator[None]:
    """Writes OBJECT if the body raises and the store permits it, and deletes it otherwise.

    Enter it when the work begins: a refusal before that, such as one of the cluster, leaves nothing in the store.
    """
    try:
        yield
    except BaseException as error:
        with suppress(OSError, UserError):
            store.replace(OBJECT, Failure.of(error).to_json().encode())
        raise
    if store.info(OBJECT) is not None:
        store.delete(OBJECT)
