"""Imports a data set: one or more files of any supported format, joined by photo."""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from infra.errors import UserError
from infra.log import log
from infra.paths import absolute, exists, is_dir, is_file
from infra.storage.disk import replace_file
from infra.storage.open import open_store, require_folder
from infra.storage.pieces import object_pieces
from infra.storage.process_folder import temporary_folder
from pipelines.datasets.file_patterns import base_folder, is_pattern
from pipelines.datasets.flickr import split_list
from pipelines.datasets.formats import HEAD, TABLES, UNPACK, detect_format, is_read_in_place, read_file
from pipelines.datasets.listing import Listing
from pipelines.datasets.locate_photos import ARCHIVES, locate_photos
from pipelines.datasets.manifest import SPLITS, Manifest, Photo
from pipelines.datasets.names import dataset_name
from pipelines.datasets.parquet_table import embeds_images
from pipelines.datasets.photo_sources import parent_and_name
from pipelines.datasets.rows import SPLIT_NAMES, DatasetFile, PhotoRows
from pipelines.datasets.spellings import existing_path


@dataclass(frozen=True)
class DatasetFiles:
    """The files of a data set, as `--dataset`, `--format` and `--columns` give them."""

    files: tuple[str, ...]
    """Each a path or URI, or `<split>=<path or URI>` for photos that all belong to a split."""
    format: str | None = None
    """One of `formats.FORMATS` for all files but split lists; None detects it by content."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column names of tables by role (`columns.parse_columns`)."""

    def __str__(self) -> str:
        """Returns the files, separated by blanks."""
        return " ".join(self.files)


Dataset = DatasetFiles | str | Path
"""A data set; a path or URI is one file, whose format is detected."""


def import_dataset(dataset: Dataset, photos: str | Path | None = None, indexes: str = "") -> Manifest:
    """Returns the manifest of a data set.

    `photos` is the folder, prefix URI or tar file of relative photo paths. Without it, that is the current folder, or
    the folder that is the data set, or that of tars and Parquet files that contain their photos. Indexes of tars are
    stored below the folder `indexes` (`extract.output`), if it is not empty. Raises UserError as `dataset_rows`, and
    if photos cannot be read from their root. A photo that does not exist has no version token.
    """
    if indexes:
        require_folder(indexes, "extract.output")
    name, rows, root = _read(dataset, photos, indexes)
    return locate_photos(name, root, rows)


def dataset_rows(dataset: Dataset) -> tuple[str, list[Photo]]:
    """Returns name and photos of a data set, without looking for the photos.

    Raises UserError if a file cannot be found, is not valid, or contradicts another one.
    """
    name, rows, _ = _read(dataset, "")
    return name, list(rows)


def dataset_folder(dataset: Dataset) -> str:
    """Returns the folder or prefix URI of a data set's first file."""
    location = _split_and_location(_as_files(dataset).files[0])[1]
    parent, _ = parent_and_name(location)
    return location if parent.endswith(":/") else parent


def _as_files(dataset: Dataset) -> DatasetFiles:
    return dataset if isinstance(dataset, DatasetFiles) else DatasetFiles((str(dataset),))


def _read(dataset: Dataset, photos: str | Path | None, indexes: str = "") -> tuple[str, Iterator[Photo], str]:
    """Returns name, photos and photo root."""
    given = _as_files(dataset)
    root = "" if photos == "" else absolute(photos or ".", "photo folder")
    rows, names = PhotoRows(), list[str]()
    with ExitStack() as stack:
        locations = [_split_and_location(each) for each in given.files]
        _refuse_repeated(locations)
        files = [(split, stack.enter_context(_opened(location, given.columns))) for split, location in locations]
        formats = [_format(file, given, split) for split, file in files]
        own = {_folder(file) for (_, file), found in zip(files, formats, strict=True) if _has_photos(file, found)}
        root = _photo_root(root, bool(photos), own) if own else root
        for (split, file), found in zip(files, formats, strict=True):
            if found != "list":
                name, entries = read_file(replace(file, split=split, photos=root, indexes=indexes), found)
                names.append(name)
                rows.add(str(file.path), entries, split)
        if not names:
            raise UserError(f"data set {given} has split lists only; also give the file with the captions")
        for (split, file), found in zip(files, formats, strict=True):
            if found == "list":
                rows.set_splits(str(file.path), split_list(file.path), split)
    found_photos, left_out = rows.photos()
    if left_out:
        log.info("%d photos of %s are in no split list and left out", left_out, given)
    return dataset_name(names[0]), found_photos, root


def _refuse_repeated(files: list[tuple[str, str]]) -> None:
    """Raises UserError for a file that is given twice for a split: each photo would have each caption twice."""
    for number, file in enumerate(files):
        if file in files[:number]:
            raise UserError(f"--dataset has {file[1]} twice; give it once")


def _split_and_location(given: str) -> tuple[str, str]:
    """Returns the split, empty by default, and the absolute path or URI of a file. UserError for an archive."""
    name, equals, path = given.partition("=")
    split = SPLIT_NAMES.get(name, name)
    if equals and split not in SPLITS:
        _check_split(name, path, given)
    if not equals or split not in SPLITS:
        split, path = "", given
    location = absolute(path, "data set").rstrip("/") or "/"
    if location.lower().endswith(ARCHIVES):
        raise UserError(f"data set {location} is an archive or compressed; {UNPACK}")
    return split, location


def _check_split(name: str, path: str, given: str) -> None:
    """Raises UserError for `<name>=<path>` with an unknown split, unless it is the path of a file."""

    def is_path(location: str) -> bool:
        return exists(existing_path(Path(absolute(location, "data set"))))

    if re.fullmatch(r"[\w-]+", name) and path and not is_path(given) and ("://" in path or is_path(path)):
        raise UserError(f"--dataset {given}: '{name}' is not a split; give one of {', '.join(SPLITS)}")


@contextmanager
def _opened(location: str, columns: Mapping[str, str]) -> Iterator[DatasetFile]:
    """Gives the file on this machine; an object is downloaded, and errors name its URI. UserError if it is missing.

    Of a tar or a Parquet file in a bucket, only the first bytes are downloaded.
    """
    if is_pattern(location):
        yield DatasetFile(location, Path(location), columns)
        return
    if location.startswith("/"):
        path = existing_path(Path(location))
        if not exists(path):
            raise UserError(f"{path}: no such file; check the path of the data set")
        if not (is_dir(path) or is_file(path)):  # a pipe can be read once, a data set is read several times
            raise UserError(f"{path}: not a regular file; save its content as a file")
        yield DatasetFile(str(path), path, columns, listing=Listing(str(path)) if is_dir(path) else None)
        return
    parent, name = parent_and_name(location)
    listing = None
    with temporary_folder("shan-import-") as folder:
        path = folder / name
        if parent.endswith(":/") or not _download(parent, name, path):  # a bucket by itself is a folder
            listing = Listing(location)
            if not any(True for _ in listing):
                raise UserError(f"{location}: no such file; check the URI of the data set")
            path.mkdir()
        try:
            yield DatasetFile(location, path, columns, listing=listing)
        except UserError as error:
            raise UserError(str(error).replace(str(path), location)) from error


def _download(parent: str, name: str, path: Path) -> bool:
    """Downloads an object, or its head if it is read where it is. Returns False if it does not exist."""
    try:
        store = open_store(parent)
        head = store.read(name, 0, HEAD)
        replace_file(path, head if is_read_in_place(name, head) else object_pieces(store, name))
    except (FileNotFoundError, IsADirectoryError):
        return False
    return True


def _format(file: DatasetFile, given: DatasetFiles, split: str) -> str:
    """Returns the format of a file; UserError if it does not fit the other options."""
    found = detect_format(file) if given.format is None else given.format
    if given.format is not None and split and _is_list(file):
        found = "list"
    if found == "list" and not split:
        raise UserError(
            f"{file.path}: its format is not recognised, or it is a list of the photos of a split; give --format, or "
            f"train={file.path}"
        )
    if given.columns and found not in (*TABLES, "list"):
        raise UserError(f"--columns has no effect on {file.path}, which is not a table; omit it")
    return found


def _is_list(file: DatasetFile) -> bool:
    try:
        return detect_format(file) == "list"
    except UserError:
        return False


def _has_photos(file: DatasetFile, format_: str) -> bool:
    """Returns whether the photos are in the file or folder itself."""
    return format_ in ("folder", "webdataset") or (format_ == "parquet" and embeds_images(file))


def _folder(file: DatasetFile) -> str:
    """Returns the folder or prefix URI that a location is, or in which its files are."""
    if file.listing is not None:
        return file.location
    return base_folder(file.location) if is_pattern(file.location) else parent_and_name(file.location)[0]


def _photo_root(given: str, is_given: bool, own: Collection[str]) -> str:
    """Returns the photo root of files in the folders `own` that have their photos: the given one or the nearest.

    Raises UserError if they are not below the given one, or in different buckets.
    """
    parts = [folder.rstrip("/").split("/") for folder in own]
    common = next(n for n in range(len(min(parts)), -1, -1) if len({tuple(part[:n]) for part in parts}) == 1)
    nearest = "/".join(parts[0][:common]) or "/"
    root = given if is_given else nearest
    if "://" in "".join(own) and common < 3:
        raise UserError(f"the photos are in {' and '.join(sorted(own))}; give files of one bucket")
    if not f"{nearest.rstrip('/')}/".startswith(f"{root.rstrip('/')}/"):
        raise UserError(f"the photos are in {nearest}, not in {root}; omit --photos, or give a folder above them")
    return root
