"""Imports a bottom-up-attention TSV as a feature set, in one pass: photos go to shards in the order of their rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from infra.errors import UserError
from pipelines.datasets.karpathy import karpathy_rows
from pipelines.datasets.manifest import SPLITS, Manifest, Photo
from pipelines.features.precomputed.shard_import import Content, Imported, OnPhotos, ShardImport, describe_source
from pipelines.features.precomputed.source_files import source_fingerprint
from pipelines.features.precomputed.tsv_lines import image_id, tsv_files, tsv_lines
from pipelines.features.precomputed.tsv_match import PhotoFinder
from pipelines.features.precomputed.tsv_row import RowError, decode_row
from pipelines.features.receipt import Receipt, Rejection
from pipelines.features.shard_plan import PlannedShard
from pipelines.features.shards import Sample, count_regions

DETECTOR = "precomputed-tsv"
MISSING = "the TSV has no row for this photo"
_TRIES = 100
"""Rows in which a readable one is searched for the feature width."""

_Found = tuple[Photo, bytes | None]
"""A photo and its row, or None if the TSV has none."""


@dataclass
class _Counts:
    """Rows read so far, and how many of them were left out."""

    rows: int = 0
    first_id: str = ""
    unnamed: int = 0
    repeated: int = 0

    def notes(self) -> list[str]:
        notes = []
        if self.unnamed:
            notes.append(f"{self.unnamed} of {self.rows} rows left out: their photos are not in the data set")
        if self.repeated:
            notes.append(f"{self.repeated} of {self.rows} rows left out: they repeat a photo, whose first row is used")
        return notes


@dataclass
class _ShardBuffer:
    """Buffered photos of an incomplete shard."""

    photos: list[_Found] = field(default_factory=list)
    next_number: int = 0


def import_tsv(path: Path, dataset: Path, output: str, photos_per_shard: int, progress: OnPhotos) -> Imported:
    """Imports a TSV (or a folder of them) as a feature set below the root `output`.

    `dataset` is the Karpathy JSON with splits and captions; the photos themselves are not needed. A photo without a
    row, or with an invalid one, is rejected with the reason. Raises UserError if no row belongs to a photo.
    """
    files = tsv_files(path)
    name, photos = karpathy_rows(dataset)
    manifest = Manifest.build(name, str(dataset.absolute().parent), photos)
    width = _width(path, files)
    counts = _Counts()
    with ShardImport(manifest, source_fingerprint(DETECTOR, files), output, photos_per_shard, progress) as shards:
        for shard, rows in _planned_shards(photos, files, photos_per_shard, counts):
            shards.add(shard, partial(_content, rows, width))
        if counts.rows == counts.unnamed:
            raise UserError(
                f"{path}: none of its {counts.rows} rows belongs to a photo of {dataset} (first image_id "
                f"'{counts.first_id}'); pass the data set from which it was extracted"
            )
        return shards.finish(
            lambda receipts: describe_source(DETECTOR, width, _region_range(receipts, width)), counts.notes()
        )


def _width(path: Path, files: list[Path]) -> int:
    """Returns the feature width of the first valid row."""
    reason = "the file is empty"
    for _, line in zip(range(_TRIES), tsv_lines(files), strict=False):
        try:
            return decode_row(line).regions_RF.shape[1]
        except RowError as error:
            reason = str(error)
    raise UserError(f"{path}: none of its first {_TRIES} rows is valid ({reason}); pass a TSV with known columns")


def _planned_shards(
    photos: Sequence[Photo], files: list[Path], photos_per_shard: int, counts: _Counts
) -> Iterator[tuple[PlannedShard, list[_Found]]]:
    """Yields full shards as rows arrive, then the rest of every split with the photos that have no row.

    The plan depends on image ids alone, so a rerun gives the same names without decoding a row.
    """
    waiting = {split: _ShardBuffer() for split in SPLITS}
    missing = {photo.key: photo for photo in photos}
    finder = PhotoFinder(photos)

    def full(split: str, at_least: int) -> Iterator[tuple[PlannedShard, list[_Found]]]:
        queue = waiting[split]
        while len(queue.photos) >= at_least:
            found, queue.photos = queue.photos[:photos_per_shard], queue.photos[photos_per_shard:]
            yield PlannedShard(split, queue.next_number, tuple(photo for photo, _ in found)), found
            queue.next_number += 1

    for line in tsv_lines(files):
        counts.rows += 1
        counts.first_id = counts.first_id or image_id(line)
        photo = finder.find(image_id(line))
        if photo is None:
            counts.unnamed += 1
        elif missing.pop(photo.key, None) is None:
            counts.repeated += 1
        else:
            waiting[photo.split].photos.append((photo, line))
            yield from full(photo.split, photos_per_shard)
    if counts.rows == counts.unnamed:
        return
    for photo in missing.values():
        waiting[photo.split].photos.append((photo, None))
    for split in SPLITS:
        yield from full(split, 1)


def _content(rows: Sequence[_Found], width: int) -> Content:
    """Returns samples and rejections of one shard."""
    samples, rejected = [], []
    for photo, line in rows:
        if line is None:
            rejected.append(Rejection(photo.key, photo.source, MISSING))
            continue
        try:
            row = decode_row(line, width)
        except RowError as error:
            rejected.append(Rejection(photo.key, photo.source, str(error)))
        else:
            meta = {"source": photo.source, "captions": photo.captions, "sha256": "", **row.meta}
            samples.append(Sample(photo.key, row.regions_RF, row.boxes_R4, meta))
    return samples, rejected


def _region_range(receipts: Sequence[Receipt], width: int) -> tuple[int, int]:
    counts = [count_regions(photo, width) for receipt in receipts for photo in receipt.written]
    return min(counts), max(counts)
