"""An object that a long job replaces at its end, unless another job has replaced it meanwhile."""

from dataclasses import dataclass

from infra.errors import UserError
from infra.storage.base import Store


@dataclass(frozen=True)
class Replacement:
    """An object as a job found it when it began, which is what the job may replace.

    A job that was stalled, or a second one with other inputs, must not undo what another process has published
    meanwhile. The first version is created atomically; a later one is replaced at once after the look.
    """

    store: Store
    name: str
    found: bytes | None
    """Its bytes, or None if it did not exist."""

    @classmethod
    def of(cls, store: Store, name: str) -> "Replacement":
        """Reads the object. Call this before anything is decided by its content."""
        return cls(store, name, _content(store, name))

    def require_unchanged(self, data: bytes) -> bool:
        """Returns whether the object is `data` already.

        Raises UserError if it is neither that nor what the job found.
        """
        stored = _content(self.store, self.name)
        if stored not in (self.found, data):
            raise UserError(
                f"{self.store.uri}/{self.name}: another job has replaced it since this one began, so nothing was "
                "published; re-run the command if the inputs of this job should replace those of the other one"
            )
        return stored == data

    def write(self, data: bytes) -> None:
        """Writes the object unless it is `data` already. Raises UserError as `require_unchanged`."""
        if self.require_unchanged(data):
            return
        if self.found is not None:
            self.store.replace(self.name, data)
        elif not self.store.put_if_absent(self.name, data):
            self.require_unchanged(data)


def _content(store: Store, name: str) -> bytes | None:
    try:
        return store.read(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
