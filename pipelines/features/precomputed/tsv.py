"""Bottom-up-attention TSV to a feature set, in one pass: photos go to shards in the order in which their rows come."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from infra.errors import UserError
from pipelines.datasets.karpathy import karpathy_rows
from pipelines.datasets.manifest import SPLITS, Manifest, Photo
from pipelines.extraction.shard_plan import Group
from pipelines.features.precomputed.shard_import import Content, Imported, Progress, ShardImport, describe
from pipelines.features.precomputed.source_files import source_fingerprint
from pipelines.features.precomputed.tsv_lines import image_id, tsv_files, tsv_lines
from pipelines.features.precomputed.tsv_match import PhotoFinder
from pipelines.features.precomputed.tsv_row import RowError, decode_row
from pipelines.features.shards import Receipt, Rejection, Sample, regions_in

DETECTOR = "precomputed-tsv"
MISSING = "no row of the TSV is of this photo"
_TRIES = 100

_Found = tuple[Photo, bytes | None]
"""A photo and its row, None if there is none."""


@dataclass
class _Counts:
    """Rows read so far, and those that no shard has."""

    rows: int = 0
    first: str = ""
    unnamed: int = 0
    repeated: int = 0

    def notes(self) -> list[str]:
        notes = []
        if self.unnamed:
            notes.append(f"{self.unnamed} of {self.rows} rows are of photos that the data set does not name; left out")
        if self.repeated:
            notes.append(f"{self.repeated} of {self.rows} rows repeat a photo; its first row is taken")
        return notes


@dataclass
class _Waiting:
    """The photos of a split that do not fill a shard yet."""

    photos: list[_Found] = field(default_factory=list)
    shards: int = 0


def import_tsv(path: Path, dataset: Path, output: str, photos_per_shard: int, progress: Progress) -> Imported:
    """The feature set, below the root `output`, of a TSV (or a folder of them) and the Karpathy JSON that has splits
    and captions; the photos themselves are not needed.

    A photo without a row, or with one that is broken, is rejected with its reason. UserError if no row is of a photo.
    """
    files = tsv_files(path)
    name, photos = karpathy_rows(dataset)
    manifest = Manifest.build(name, str(dataset.absolute().parent), photos)
    width = _width(path, files)
    counts = _Counts()
    with ShardImport(manifest, source_fingerprint(DETECTOR, files), output, photos_per_shard, progress) as shards:
        for group, rows in _groups(photos, files, photos_per_shard, counts):
            shards.add(group, partial(_content, rows, width))
        if counts.rows == counts.unnamed:
            raise UserError(
                f"{path}: none of its {counts.rows} rows is of a photo of {dataset} (first image_id "
                f"'{counts.first}'); pass the data set that it was extracted from"
            )
        return shards.finish(lambda receipts: describe(DETECTOR, width, _region_range(receipts, width)), counts.notes())


def _width(path: Path, files: list[Path]) -> int:
    """Feature width of the first row that can be read."""
    reason = "it is empty"
    for _, line in zip(range(_TRIES), tsv_lines(files), strict=False):
        try:
            return decode_row(line).regions_RF.shape[1]
        except RowError as error:
            reason = str(error)
    raise UserError(f"{path}: none of its first rows can be read ({reason}); docs/data.md has the column orders")


def _groups(
    photos: Sequence[Photo], files: list[Path], photos_per_shard: int, counts: _Counts
) -> Iterator[tuple[Group, list[_Found]]]:
    """Full shards as rows come, then what is left of every split and the photos that have no row.

    The groups follow from image ids alone, so a rerun names the same shards without decoding a row.
    """
    waiting = {split: _Waiting() for split in SPLITS}
    missing = {photo.key: photo for photo in photos}
    finder = PhotoFinder(photos)

    def full(split: str, at_least: int) -> Iterator[tuple[Group, list[_Found]]]:
        place = waiting[split]
        while len(place.photos) >= at_least:
            found, place.photos = place.photos[:photos_per_shard], place.photos[photos_per_shard:]
            yield Group(split, place.shards, tuple(photo for photo, _ in found)), found
            place.shards += 1

    for line in tsv_lines(files):
        counts.rows += 1
        counts.first = counts.first or image_id(line)
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
    """Samples and rejections of one shard."""
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
            meta = {"source": photo.source, "captions": photo.captions, "sha256": "", **row.said}
            samples.append(Sample(photo.key, row.regions_RF, row.boxes_R4, meta))
    return samples, rejected


def _region_range(receipts: Sequence[Receipt], width: int) -> tuple[int, int]:
    counts = [regions_in(photo, width) for receipt in receipts for photo in receipt.written]
    return min(counts), max(counts)
