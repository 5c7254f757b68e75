"""Rows as the readers of data sets yield them, and the photos that they add up to.

A row may have one caption of its photo, all of them or none, and may leave split and key to other rows or files.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from infra.log import log
from infra.redaction import redact
from pipelines.datasets.listing import Listing
from pipelines.datasets.manifest import SPLITS, Photo, photo_problem
from pipelines.datasets.manifest_checks import repeated_rows
from pipelines.datasets.names import normal_uri, safe_key
from pipelines.datasets.row_table import Row, RowTable
from pipelines.datasets.spellings import composed, spellings
from shan_model.vocabulary import has_word


@dataclass(frozen=True)
class DatasetFile:
    """A file or a folder of a data set."""

    location: str
    """Its absolute path or URI."""
    path: Path
    """Its path on this machine; of a folder in a bucket, an empty folder."""
    columns: Mapping[str, str]
    """Column names by role (`columns.ROLES`), for tables."""
    split: str = ""
    """Split of all its photos, if the user states one."""
    photos: str = ""
    """Root of the photos; empty if it is not known."""
    indexes: str = ""
    """Root of feature sets, below which indexes of tars are stored (`stored_tar_index`); empty for nowhere."""
    listing: Listing | None = None
    """Its objects, if it is a folder or prefix."""

    def below_root(self, location: str) -> str:
        """Returns the path below the photo root of a location there, or its name if the root is not known."""
        root = f"{self.photos.rstrip('/')}/"
        return location.removeprefix(root) if location.startswith(root) else location.rpartition("/")[2]


SPLIT_NAMES = {"restval": "train", "validation": "val", "dev": "val"}
"""Other names of splits: by convention, the `restval` photos of COCO are training photos."""


_KEY_DIGITS = 8
"""Digits of a path's hash by which a key is extended while others have the same."""
_MOST_KEY_DIGITS = 64


class PhotoRows:
    """Joins the rows of a data set by photo, in the order in which photos first occur."""

    def __init__(self) -> None:
        self._rows, self._files = RowTable(), list[str]()
        self._has_lists = False

    def add(self, file: str, rows: Iterable[Row], split: str) -> None:
        """Adds the rows of a file, which all belong to `split` if it is not empty. Raises UserError naming a row.

        Wordless captions are left out, and their number is printed.
        """
        self._files.append(file)
        wordless, first = 0, ""
        for row in rows:
            captions = tuple(filter(has_word, row.captions))
            if len(captions) < len(row.captions):
                wordless, first = wordless + len(row.captions) - len(captions), first or row.where
            self._rows.append(len(self._files) - 1, _checked(file, row, split)._replace(captions=captions))
        self._rows.flush()
        if wordless:
            log.info("%d captions of %s contain no word and are left out (first in %s)", wordless, file, first)

    def set_splits(self, file: str, names: Iterable[tuple[str, str]], split: str) -> None:
        """Puts the photos of a list into a split. `names`: entry and file name, with its ending or without.

        Names may be spelled otherwise (`spellings`). Raises UserError for a name that no photo has, and for one without
        ending that several have.
        """
        self._has_lists = True
        photos = dict.fromkeys(source for (source,) in self._rows.columns("source"))
        sources = _by_unique_name(photos)
        sources |= {composed(source): source for source in photos}
        sources |= {source: source for source in photos}
        rows = []
        for where, name in names:
            source = next((sources[each] for each in (normal_uri(name), *spellings(name)) if each in sources), None)
            if source is None:
                raise UserError(
                    f"{file}: {where}: '{name}' is not the name of one photo of the other files; correct it, or also "
                    "give the file with its captions"
                )
            rows.append(Row(where, source, split=split))
        self.add(file, rows, split)

    def photos(self) -> tuple[Iterator[Photo], int]:
        """Returns the photos, and the number of those that were left out because they are in no list. Call it once.

        Without lists, photos that have no split are in `train` if they have captions, and else in `gallery`. Raises
        UserError naming a row that contradicts another one.
        """
        kept, left_out = self._rows, 0
        hashes = np.fromiter((hash(source) for (source,) in kept.columns("source")), np.int64)
        if self._has_lists or len(repeated_rows(hashes)):
            kept = RowTable()
            for file, row in self._joined_rows(hashes):
                if row.split or not self._has_lists:
                    kept.append(file, row)
                else:
                    left_out += 1
            self._rows = kept
        digits = self._key_digits(kept)
        return (_photo(row, count) for (_, row), count in zip(kept.drain(), digits.tobytes(), strict=True)), left_out

    def _joined_rows(self, hashes: NDArray[np.int64]) -> Iterator[tuple[int, Row]]:
        """Yields one row for each photo, in the order in which photos first occur."""
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        first_of_row = first[inverse]
        order = np.argsort(first_of_row, kind="stable")
        groups = zip(self._rows.take(order), first_of_row[order], strict=True)
        for _, group in groupby(groups, key=lambda pair: pair[1]):
            joined: dict[str, tuple[int, Row]] = {}  # of one photo, if hashes do not collide
            for (file, row), _ in group:
                number, earlier = joined.get(row.source, (file, None))
                joined[row.source] = number, _joined(self._files[file], earlier, row) if earlier else row
            yield from joined.values()

    def _key_digits(self, rows: RowTable) -> NDArray[np.uint8]:
        """Returns for every photo the digits of its path's hash that make its key unique; 0 if its name is.

        They do not depend on the order: all photos that share a key get more digits, but for one with a key of its own.
        Raises UserError if two photos have the same key of their own.
        """
        is_own = np.fromiter((key != "" for (key,) in rows.columns("key")), np.bool_)
        digits = np.zeros(len(is_own), np.uint8)
        keys = _key_hashes(rows, digits)
        self._require_distinct(rows, np.flatnonzero(is_own)[repeated_rows(keys[is_own])])
        while True:
            shared = repeated_rows(keys)
            shared = shared[~is_own[shared] & (digits[shared] < _MOST_KEY_DIGITS)]
            if not len(shared):
                return digits
            digits[shared] += _KEY_DIGITS
            keys = _key_hashes(rows, digits)

    def _require_distinct(self, rows: RowTable, numbers: NDArray[np.int64]) -> None:
        """Raises UserError if two of the rows with these numbers have the same key of their own."""
        source_of_key: dict[str, str] = {}
        for file, row in rows.take(numbers):
            if (other := source_of_key.setdefault(row.key, row.source)) != row.source:
                entry = f"{self._files[file]}: {row.where}"
                raise UserError(f"{entry}: {row.source} and {other} share the key {row.key}; change one of them")


def _key_hashes(rows: RowTable, digits: NDArray[np.uint8]) -> NDArray[np.int64]:
    columns = zip(rows.columns("key", "source"), digits.tobytes(), strict=True)
    return np.fromiter((hash(_key(key, source, count)) for (key, source), count in columns), np.int64)


def _by_unique_name(sources: Iterable[str]) -> dict[str, str]:
    """Returns the sources by those of their names that no other has: path or file name, without or with ending."""
    owners: dict[str, str | None] = {}
    for source in sources:
        path = PurePosixPath(composed(source))
        for name in {path.name, path.stem, str(path.with_suffix(""))}:
            owners[name] = source if name not in owners else None
    return {name: source for name, source in owners.items() if source is not None}


def _checked(file: str, row: Row, split: str) -> Row:
    """Returns a row with the split of its file. Raises UserError if it is not valid by itself."""
    try:
        "".join((row.source, row.key, row.split, *row.captions)).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{file}: {row.where}: a caption or name is not valid Unicode ({error.reason}); correct it"
        ) from error
    own = SPLIT_NAMES.get(row.split, row.split)
    if own and split not in ("", own):
        raise UserError(
            f"{file}: {row.where} ({row.source}) has split '{own}', but the file is given as '{split}='; "
            "remove one of them"
        )
    if problem := photo_problem(row.key or "key", row.source, own or split or SPLITS[0], ()):
        raise UserError(f"{file}: {row.where} ('{redact(row.source)}'): {problem}")
    return row._replace(split=own or split, source=normal_uri(row.source))


def _key(key: str, source: str, digits: int) -> str:
    """Returns a photo's own key, or else its file name, with digits of a hash of the path if it is not unique.

    Keys therefore depend on the set of rows, not on their order.
    """
    if key or not digits:
        return key or safe_key(source)
    path_hash = hashlib.sha256(composed(source).encode(errors="surrogatepass")).hexdigest()
    return f"{safe_key(source)}-{path_hash[:digits]}"


def _photo(row: Row, digits: int) -> Photo:
    return Photo(_key(row.key, row.source, digits), row.source, _split(row), row.captions, row.version_token)


def _split(row: Row) -> str:
    return row.split or ("train" if row.captions else "gallery")


def _joined(file: str, earlier: Row, row: Row) -> Row:
    """Returns one row for two of the same photo. Raises UserError if they contradict each other."""
    if row.is_complete and earlier.is_complete:
        raise UserError(f"{file}: {row.where}: {row.source} is listed twice; remove one of the entries")
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
        version_token=earlier.version_token or row.version_token,
    )


def numbered(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yields `line <number>` and the line without its end, for lines that are not blank.

    Raises ValueError for a line with a carriage return inside: a file with such line ends would be one line.
    """
    for number, line in enumerate(lines, 1):
        if text := line.rstrip("\r\n"):
            if "\r" in text:
                raise ValueError(f"line {number} has a carriage return inside; end lines with \\n")
            yield f"line {number}", text
