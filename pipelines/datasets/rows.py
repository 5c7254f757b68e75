"""Rows as the readers of data sets yield them, and the photos that they add up to.

A row may have one caption of its photo, all of them or none, and may leave split and key to other rows or files.
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from infra.errors import UserError
from pipelines.datasets.manifest import Photo, escapes_root, safe_key


@dataclass(frozen=True)
class DatasetFile:
    """A file or a folder of a data set."""

    location: str
    """Its absolute path or URI."""
    path: Path
    """Its path on this machine; of a folder in a bucket, an empty folder."""
    columns: Mapping[str, str]
    """Column names by role (`columns.ROLES`), for tables."""
    photos: str = ""
    """Root of the photos; empty if it is not known."""
    indexes: str = ""
    """Root of feature sets, below which indexes of tars are stored (`stored_tar_index`); empty for nowhere."""

    def below_root(self, location: str) -> str:
        """Returns the path below the photo root of a location there, or its name if the root is not known."""
        root = f"{self.photos.rstrip('/')}/"
        return location.removeprefix(root) if location.startswith(root) else location.rpartition("/")[2]


SPLIT_NAMES = {"restval": "train", "validation": "val", "dev": "val"}
"""Other names of splits: by convention, the `restval` photos of COCO are training photos."""


class Row(NamedTuple):
    """One entry of a file. A reader raises UserError naming the entry if it is not valid."""

    where: str
    """The entry in messages, such as `line 7`."""
    source: str
    captions: tuple[str, ...] = ()
    split: str = ""
    """Empty if the file does not contain it."""
    key: str = ""
    """Empty if the file does not contain it."""
    is_complete: bool = False
    """Whether the file has no other entry for this photo."""


class PhotoRows:
    """Joins the rows of a data set by photo, in the order in which photos first occur."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._source_of_key: dict[str, str] = {}
        self._has_lists = False

    def add(self, file: str, rows: Iterable[Row], split: str) -> None:
        """Adds the rows of a file, which all belong to `split` if it is not empty. Raises UserError naming a row."""
        for row in rows:
            own = SPLIT_NAMES.get(row.split, row.split)
            if own and split not in ("", own):
                raise UserError(
                    f"{file}: {row.where} ({row.source}) has split '{own}', but the file is given as '{split}='; "
                    "remove one of them"
                )
            self._add(file, row._replace(split=own or split))

    def _add(self, file: str, row: Row) -> None:
        if escapes_root(row.source):
            raise UserError(
                f"{file}: {row.where} ('{row.source}'): a photo's path must stay below the photo root; correct the path"
            )
        earlier = self._rows.get(row.source)
        if earlier is None:
            self._rows[row.source] = row
        elif row.is_complete and earlier.is_complete:
            raise UserError(f"{file}: {row.where}: {row.source} is listed twice; remove one of the entries")
        else:
            self._rows[row.source] = _joined(file, earlier, row)
        if row.key and (other := self._source_of_key.setdefault(row.key, row.source)) != row.source:
            raise UserError(
                f"{file}: {row.where}: {row.source} and {other} share the key {row.key}; change one of them"
            )

    def set_splits(self, file: str, names: Iterable[tuple[str, str]], split: str) -> None:
        """Puts the photos of a list into a split. `names`: entry and file name, with its ending or without.

        Raises UserError for a name that no photo has, and for one without ending that several have.
        """
        self._has_lists = True
        stems = Counter(PurePosixPath(source).stem for source in self._rows)
        sources = {stem: source for source in self._rows if stems[stem := PurePosixPath(source).stem] == 1}
        sources |= {source: source for source in self._rows}
        for where, name in names:
            source = sources.get(name)
            if source is None:
                raise UserError(
                    f"{file}: {where}: '{name}' is not the name of one photo of the other files; correct it, or also "
                    "give the file with its captions"
                )
            self._rows[source] = _joined(file, self._rows[source], Row(where, source, split=split))

    def photos(self) -> tuple[list[Photo], int]:
        """Returns the photos, and the number of those that were left out because they are in no list.

        Without lists, photos that have no split are in `train` if they have captions, and else in `gallery`.
        """
        kept = [row for row in self._rows.values() if row.split or not self._has_lists]
        keys = _keys(kept)
        photos = [Photo(keys[row.source], row.source, _split(row), row.captions) for row in kept]
        return photos, len(self._rows) - len(kept)


def _keys(rows: Sequence[Row]) -> dict[str, str]:
    """Returns the key of each photo by source: its own, or the file name, with a hash of the path if it is not unique.

    The keys depend on the set of rows, not on their order.
    """
    stems = {row.source: row.key or safe_key(row.source) for row in rows}
    count = Counter(stems.values())

    def key(row: Row) -> str:
        stem = stems[row.source]
        if row.key or count[stem] == 1:
            return stem
        path = unicodedata.normalize("NFC", row.source)
        return f"{stem}-{hashlib.sha256(path.encode(errors='surrogatepass')).hexdigest()[:8]}"

    return {row.source: key(row) for row in rows}


def _split(row: Row) -> str:
    return row.split or ("train" if row.captions else "gallery")


def _joined(file: str, earlier: Row, row: Row) -> Row:
    """Returns one row for two of the same photo."""
    for field in ("split", "key"):
        old, new = getattr(earlier, field), getattr(row, field)
        if old and new and old != new:
            raise UserError(
                f"{file}: {row.where} ({row.source}): its {field} is '{new}', but another entry of this photo has "
                f"'{old}'; correct one of them"
            )
    return earlier._replace(
        captions=(*earlier.captions, *row.captions),
        split=earlier.split or row.split,
        key=earlier.key or row.key,
        is_complete=earlier.is_complete or row.is_complete,
    )


def numbered(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yields `line <number>` and the line without its end, for lines that are not blank."""
    for number, line in enumerate(lines, 1):
        if text := line.rstrip("\r\n"):
            yield f"line {number}", text
