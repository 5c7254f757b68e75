"""Imports a bottom-up-attention TSV as a feature set, in one pass: photos go to shards in the order of their rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from infra.errors import UserError
from pipelines.datasets.importer import Dataset, dataset_folder, dataset_rows
from pipelines.datasets.manifest import SPLITS, Manifest, Photo
from pipelines.datasets.names import dataset_name
from pipelines.datasets.row_table import Row
from pipelines.datasets.rows import PhotoRows
from pipelines.features.precomputed.shard_import import Imported, OnPhotos, ShardContent, ShardImport, describe_source
from pipelines.features.precomputed.source_files import source_fingerprint
from pipelines.features.precomputed.tsv_arrays import RowError
from pipelines.features.precomputed.tsv_lines import image_id, tsv_files, tsv_lines
from pipelines.features.precomputed.tsv_match import PhotoFinder
from pipelines.features.precomputed.tsv_row import RowFormat, TsvRow, decode_row
from pipelines.features.receipt import Rejection
from pipelines.features.shard_plan import PlannedShard
from pipelines.features.shards import Sample, count_regions

DETECTOR = "precomputed-tsv"
MISSING = "the TSV has no row for this photo"
_TRIES = 100
"""Rows in which a valid one is searched for the format of the features."""


@dataclass(frozen=True)
class _FoundRow:
    """A row of the TSV, its photo, and its content or the reason why it is invalid."""

    image_id: str
    photo: Photo | None
    """None if the photo is not in the data set; then the row is not decoded."""
    content: TsvRow | RowError | None


@dataclass
class _Counts:
    """Rows read so far, and how many of them were left out."""

    rows: int = 0
    first_id: str = ""
    unnamed: int = 0
    repeated: int = 0
    replaced: int = 0

    def notes(self) -> list[str]:
        notes = []
        if self.unnamed:
            notes.append(f"{self.unnamed} of {self.rows} rows left out: their photos are not in the data set")
        if self.repeated:
            notes.append(
                f"{self.repeated} of {self.rows} rows left out: they repeat a photo, whose first valid row is used"
            )
        if self.replaced:
            notes.append(f"{self.replaced} photos have invalid rows before the one that is used")
        return notes


@dataclass
class _ShardBuffer:
    """Buffered photos of an incomplete shard, each with its row or the reason of its rejection."""

    photos: list[tuple[Photo, TsvRow | str]] = field(default_factory=list)
    next_number: int = 0


def import_tsv(path: Path, dataset: Dataset | None, output: str, photos_per_shard: int, progress: OnPhotos) -> Imported:
    """Imports a TSV (or a folder of them) as a feature set below the root `output`.

    `dataset` is the data set with splits and captions; the photos themselves are not needed. Without one, the photos
    of all rows are in the split `gallery`, without captions. A photo without a valid row is rejected with the reason.
    Raises UserError if no row belongs to a photo.
    """
    files = tsv_files(path)
    manifest = _uncaptioned(path, files) if dataset is None else _captioned(dataset)
    photos = list(manifest.photos())
    find = PhotoFinder(photos).find if dataset is not None else {photo.source: photo for photo in photos}.get
    counts = _Counts()
    with ShardImport(manifest, source_fingerprint(DETECTOR, files), output, photos_per_shard, progress) as shards:
        if (finished := shards.finished()) is not None:
            return finished
        row_format = _row_format(path, files)
        rows = shards.map(partial(_read_row, find, row_format), tsv_lines(files))
        for shard, content in _planned_shards(photos, rows, photos_per_shard, counts):
            shards.add(shard, partial(_content, content))
        if counts.rows == counts.unnamed:
            raise UserError(
                f"{path}: none of its {counts.rows} rows belongs to a photo of {manifest.name} (first image_id "
                f"'{counts.first_id}'); pass the data set from which it was extracted"
            )
        return shards.finish(
            lambda *sizes: describe_source(DETECTOR, row_format.width, _region_range(sizes, row_format.width)),
            counts.notes(),
        )


def _captioned(dataset: Dataset) -> Manifest:
    name, photos = dataset_rows(dataset)
    return Manifest.build(name, dataset_folder(dataset), photos)


def _uncaptioned(path: Path, files: list[Path]) -> Manifest:
    """Returns the manifest of the image ids of all rows, from one more pass over the files."""
    if not any(map(image_id, islice(tsv_lines(files), _TRIES))):
        _row_format(path, files)  # raises UserError with what the rows lack
    rows = PhotoRows()
    ids = enumerate(map(image_id, tsv_lines(files)), 1)
    rows.add(str(path), (Row(f"row {number}", name) for number, name in ids if name), "gallery")
    return Manifest.build(dataset_name(path.name.partition(".")[0]), str(path.absolute().parent), rows.photos()[0])


def _row_format(path: Path, files: list[Path]) -> RowFormat:
    """Returns the format of the first valid row."""
    reason = "the file is empty"
    for line in islice(tsv_lines(files), _TRIES):
        try:
            return decode_row(line).row_format
        except RowError as error:
            reason = str(error)
    raise UserError(f"{path}: none of its first {_TRIES} rows is valid ({reason}); pass a TSV with known columns")


def _read_row(find: Callable[[str], Photo | None], row_format: RowFormat, line: bytes) -> _FoundRow:
    """Finds the photo of a line and decodes the line; runs on the threads of the import."""
    name = image_id(line)
    photo = find(name)
    if photo is None:
        return _FoundRow(name, None, None)
    try:
        return _FoundRow(name, photo, decode_row(line, row_format))
    except RowError as error:
        return _FoundRow(name, photo, error)


def _planned_shards(
    photos: Sequence[Photo], rows: Iterator[_FoundRow], photos_per_shard: int, counts: _Counts
) -> Iterator[tuple[PlannedShard, list[tuple[Photo, TsvRow | str]]]]:
    """Yields full shards as valid rows arrive, then the rest of every split with the photos that have none."""
    waiting = {split: _ShardBuffer() for split in SPLITS}
    missing = {photo.key: photo for photo in photos}
    reasons: dict[str, str] = {}

    def full(split: str, at_least: int) -> Iterator[tuple[PlannedShard, list[tuple[Photo, TsvRow | str]]]]:
        queue = waiting[split]
        while len(queue.photos) >= at_least:
            content, queue.photos = queue.photos[:photos_per_shard], queue.photos[photos_per_shard:]
            yield PlannedShard(split, queue.next_number, tuple(photo for photo, _ in content)), content
            queue.next_number += 1

    for row in rows:
        counts.rows += 1
        counts.first_id = counts.first_id or row.image_id
        photo = row.photo
        if photo is None:
            counts.unnamed += 1
        elif photo.key not in missing:
            counts.repeated += 1
        elif isinstance(row.content, TsvRow):
            del missing[photo.key]
            counts.replaced += photo.key in reasons
            waiting[photo.split].photos.append((photo, row.content))
            yield from full(photo.split, photos_per_shard)
        else:
            reasons.setdefault(photo.key, str(row.content))
    if counts.rows == counts.unnamed:
        return
    for photo in missing.values():
        waiting[photo.split].photos.append((photo, reasons.get(photo.key, MISSING)))
    for split in SPLITS:
        yield from full(split, 1)


def _content(photos: Sequence[tuple[Photo, TsvRow | str]]) -> ShardContent:
    """Returns samples and rejections of one shard."""
    samples, rejected = [], []
    for photo, row in photos:
        if isinstance(row, str):
            rejected.append(Rejection(photo.key, photo.source, row))
        else:
            meta = {"source": photo.source, "captions": photo.captions, "sha256": "", **row.meta}
            samples.append(Sample(photo.key, row.regions_RF, row.boxes_R4, meta))
    return samples, rejected


def _region_range(sizes: tuple[int, int], width: int) -> tuple[int, int]:
    """Returns the least and most regions of a photo for the least and most bytes of a `regions.npy`."""
    least, most = (count_regions(size, width) for size in sizes)
    return least, most
