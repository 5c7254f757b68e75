"""Reader of webdataset tars: one, those of a pattern, or those of a folder or prefix (`file_patterns`).

Image and captions are members with the same key (`tar_index`), as img2dataset writes them. The Parquet files that it
writes beside its tars are not read. The source of an image is `<tar>/<start>-<end>/<member>`: the bytes of its headers
and content, so that it is one ranged read for a detector.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from infra.errors import UserError
from infra.log import log
from infra.map_ahead import map_ahead
from infra.storage.open import open_store
from pipelines.datasets.file_patterns import find_files, is_pattern, pattern_name, print_left_out
from pipelines.datasets.row_table import Row
from pipelines.datasets.rows import DatasetFile
from pipelines.datasets.stored_tar_index import read_tar_index
from pipelines.datasets.tar_index import TarIndex

_THREADS = 16
"""Tars that are read at once: an object store has a high latency."""
_NAMES = 3
"""Tars or members that a note names."""


def webdataset_name(location: str) -> str:
    """Returns the name that tars give a data set: their own without the number, or that of their folder."""
    if is_pattern(location):
        return pattern_name(location)
    path = PurePosixPath(location)
    stem = re.sub(r"(^|[-_.])\d+$", "", path.stem) if path.suffix.lower() == ".tar" else path.name
    return stem or path.parent.name


def webdataset_rows(file: DatasetFile) -> Iterator[Row]:
    """Yields the images of all tars. Raises UserError naming a tar that is not valid, or without any image."""
    folder, names = _tars(file)
    truncated, orphans, orphan_count, count = list[str](), list[str](), 0, 0
    with ThreadPoolExecutor(_THREADS) as pool:
        indexes = map_ahead(pool, lambda name: _index(file, folder, name), names, 2 * _THREADS)
        for name, index in zip(names, indexes, strict=True):
            tar = file.below_root(f"{folder.rstrip('/')}/{name}")
            for image in index.images:
                count += 1
                source = f"{tar}/{image.start}-{image.end}/{image.member}"
                yield Row(f"image {count}", source, image.captions, is_complete=True)
            truncated += [name] if index.is_truncated else []
            orphan_count += len(index.orphans)
            orphans += [f"{name}/{member}" for member in index.orphans[: _NAMES + 1 - len(orphans)]]
    if not count:
        raise UserError(f"{file.location}: no image in it; a tar of images has members such as 000.jpg and 000.txt")
    if file.listing is not None:
        print_left_out(file.listing, ".tar")
    if truncated:
        log.info("%d tars are truncated (%s); photos beyond their end are missing", len(truncated), _first(truncated))
    if orphans:
        log.info("%d texts in tars are left out (%s): no image has their name", orphan_count, _first(orphans))


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NAMES]) + (", ..." if len(names) > _NAMES else "")


def _tars(file: DatasetFile) -> tuple[str, list[str]]:
    """Returns a folder or prefix URI and the names of tars below it."""
    if file.listing is None and not file.location.lower().endswith(".tar"):
        raise UserError(f"{file.location}: the name of a tar must end in .tar; rename it")
    return find_files(file.location, file.listing, ".tar")


def _index(file: DatasetFile, folder: str, name: str) -> TarIndex:
    try:
        return read_tar_index(open_store(folder), name, file.indexes)
    except FileNotFoundError as error:
        raise UserError(f"{folder}/{name}: no such file; correct the data set {file.location}") from error
