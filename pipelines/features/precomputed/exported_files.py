"""Files of an export: each gets its name when all of them are complete, and none replaces another."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.errors import StorageError, UserError
from infra.paths import exists
from infra.storage.open import require_folder


@dataclass(frozen=True)
class Exported:
    """What was written: photos by split, and one line for each difference from the feature set."""

    photos: dict[str, int]
    notes: list[str]


def partial_file(folder: Path, name: str) -> Path:
    """Returns the path of a file until it is complete. A killed export leaves it, and the next one overwrites it."""
    return folder / f".{name}.partial"


@contextmanager
def complete_files(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Names the files when the block, which writes the `partial_file` of each, has ended; an error removes them.

    Raises UserError before the block if one of the names is taken, and if the folder cannot be written.
    """
    require_folder(folder, "PATH")
    taken = [name for name in names if exists(folder / name)]
    if taken:
        raise UserError(f"{folder}/{taken[0]} exists already; export to another folder, or delete it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield
            for name in names:
                partial_file(folder, name).rename(folder / name)
        finally:
            for name in names:
                partial_file(folder, name).unlink(missing_ok=True)
    except StorageError:  # the store of the feature set
        raise
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); free disk space or choose another folder"
        ) from error
