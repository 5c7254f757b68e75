"""Imports a folder in SCAN's format as a feature set.

The format: `{train,dev,test}_ims.npy` (N x R x F), `_caps.txt` (the same number of lines for each image, five in the
published folders) or `_caps.tsv` (an image and a caption per line), and optionally `_ids.txt`. Source: the folders that
SCAN (Lee et al., ECCV 2018) published and that its successors read. `dev` becomes `val`. `testall` (COCO's 5K) is
`test` if there is no `test`. Older folders repeat an image's row five times, once per caption.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from infra.paths import exists, is_file
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.datasets.names import dataset_name, safe_key
from pipelines.features.precomputed.float16 import rejection_reason, to_float16
from pipelines.features.precomputed.npy_rows import NpyRows
from pipelines.features.precomputed.scan_text import CAPTIONS, read_ids, read_pairs, read_scan_captions
from pipelines.features.precomputed.shard_import import Imported, OnPhotos, ShardContent, ShardImport, describe_source
from pipelines.features.precomputed.source_files import source_fingerprint
from pipelines.features.receipt import Rejection
from pipelines.features.shard_plan import PlannedShard
from pipelines.features.shards import Sample

DETECTOR = "precomputed-scan"
NAMES = {"train": "train", "val": "dev", "test": "test", "gallery": "gallery"}
"""Split to the prefix of its files in SCAN's format."""


@dataclass(frozen=True)
class _Split:
    rows: NpyRows
    repeats: int
    """Rows per image: 1, or 5 where there is one per caption."""
    photos: tuple[Photo, ...]


def import_scan(folder: Path, output: str, name: str | None, photos_per_shard: int, progress: OnPhotos) -> Imported:
    """Imports a folder in SCAN's format as a feature set below the root `output`.

    `name` is that of the data set, by default the folder's. The format has no boxes, classes and photo sizes: boxes are
    0 x 4, the rest is left out. An image whose features exceed float16 is rejected. Raises UserError for a folder that
    is not in the format.
    """
    notes: list[str] = []
    splits = _unique_keys(_read_splits(folder, notes), notes)
    shapes = {split.rows.shape[1:] for split in splits}
    if len(shapes) > 1:
        raise UserError(f"{folder}: its splits differ in regions x width {sorted(shapes)}; import them one by one")
    ((regions, width),) = shapes
    name = dataset_name(name or folder.absolute().name)
    manifest = Manifest.build(name, str(folder.absolute()), [photo for split in splits for photo in split.photos])
    fingerprint = source_fingerprint(DETECTOR, [split.rows.path for split in splits])
    with ShardImport(manifest, fingerprint, output, photos_per_shard, progress) as shards:
        for split in splits:
            for number, start in enumerate(range(0, len(split.photos), photos_per_shard)):
                photos = split.photos[start : start + photos_per_shard]
                shard = PlannedShard(photos[0].split, number, photos)
                shards.add(shard, partial(_content, split, photos, start))
        return shards.finish(lambda *_: describe_source(DETECTOR, width, (regions, regions)), notes)


def split_shape(folder: Path, split: str) -> tuple[int, int]:
    """Returns the number of images of a split of a folder in SCAN's format and the width of features; zeros without it.

    Reads captions, and of the features the header and five rows. Raises UserError for invalid ones.
    """
    prefix = _prefixes(folder, []).get(split)
    if prefix is None:
        return 0, 0
    read = _read_split(folder, split, prefix)
    return len(read.photos), read.rows.shape[2]


def _prefixes(folder: Path, notes: list[str]) -> dict[str, str]:
    """Returns the prefix of the files of each split in the folder."""
    found = {split: name for split, name in NAMES.items() if is_file(folder / f"{name}_ims.npy")}
    if is_file(folder / "testall_ims.npy"):
        if "test" in found:
            notes.append("testall_ims.npy is left out: test_ims.npy is the test split")
        else:
            found["test"] = "testall"
    return found


def _read_splits(folder: Path, notes: list[str]) -> list[_Split]:
    found = _prefixes(folder, notes)
    if not found:
        raise UserError(f"{folder}: no train_ims.npy, dev_ims.npy or test_ims.npy; pass a folder in SCAN's format")
    return [_read_split(folder, split, name) for split, name in found.items()]


def _read_split(folder: Path, split: str, name: str) -> _Split:
    rows = NpyRows.open(folder / f"{name}_ims.npy")
    pairs, lines = folder / f"{name}_caps.tsv", folder / f"{name}_caps.txt"
    if exists(pairs) and exists(lines):
        raise UserError(f"{folder}: it has both {pairs.name} and {lines.name}; remove one of them")
    by_line = None if exists(pairs) else read_scan_captions(lines, rows.shape[0])
    repeats = CAPTIONS if by_line and len(by_line[0]) == 1 and _repeats_rows(rows) else 1
    images = rows.shape[0] // repeats
    ids = read_ids(folder / f"{name}_ids.txt", images)
    captions = read_pairs(pairs, images, ids) if by_line is None else _joined(by_line, repeats)
    keys = [safe_key(id_) for id_ in ids] if ids else [f"{split}-{row:06d}" for row in range(images)]
    sources = ids or [f"{rows.path.name}#{row * repeats}" for row in range(images)]
    photos = tuple(
        Photo(key, source, split, of_image) for key, source, of_image in zip(keys, sources, captions, strict=True)
    )
    return _Split(rows, repeats, photos)


def _repeats_rows(rows: NpyRows) -> bool:
    """Returns whether the first five rows are equal, and then one image; `_one_of_five` checks the others."""
    if rows.shape[0] % CAPTIONS:
        return False
    first = rows.read(0, CAPTIONS)
    return all(row.tobytes() == first[0].tobytes() for row in first)


def _joined(captions: Sequence[tuple[str, ...]], count: int) -> list[tuple[str, ...]]:
    """Returns the captions of each `count` rows as those of one image."""
    return [tuple(chain.from_iterable(captions[n : n + count])) for n in range(0, len(captions), count)]


def _unique_keys(splits: Sequence[_Split], notes: list[str]) -> list[_Split]:
    """Prefixes all ids with their split if an id occurs in several splits. `Manifest.build` finds other duplicates."""
    count = Counter(key for split in splits for key in {photo.key for photo in split.photos})
    if max(count.values()) == 1:
        return list(splits)
    notes.append("image ids occur in several splits, so keys have the split as a prefix")
    return [
        replace(split, photos=tuple(replace(photo, key=f"{photo.split}-{photo.key}") for photo in split.photos))
        for split in splits
    ]


def _content(split: _Split, photos: Sequence[Photo], start: int) -> ShardContent:
    """Returns samples and rejections of consecutive images from `start`."""
    source_BRF = split.rows.read(start * split.repeats, len(photos) * split.repeats)
    if split.repeats > 1:
        source_BRF = _one_of_five(split.rows, source_BRF, start * split.repeats)
    regions_BRF = to_float16(source_BRF)
    samples, rejected = [], []
    for photo, regions_RF, source_RF in zip(photos, regions_BRF, source_BRF, strict=True):
        reason = rejection_reason(regions_RF, source_RF)
        if reason:
            rejected.append(Rejection(photo.key, photo.source, reason))
            continue
        meta = {"source": photo.source, "captions": photo.captions, "sha256": "", "classes": [], "confidences": []}
        samples.append(Sample(photo.key, regions_RF, np.empty((0, 4), np.float32), meta))
    return samples, rejected


def _one_of_five(rows: NpyRows, source_BRF: NDArray[np.floating], start: int) -> NDArray[np.floating]:
    """Returns the first of each five rows, which must be bit-identical."""
    images = len(source_BRF) // CAPTIONS
    bits = source_BRF.view(f"u{source_BRF.itemsize}").reshape(images, CAPTIONS, -1)
    differ = (bits != bits[:, :1]).any(axis=(1, 2))
    if differ.any():
        first = start + CAPTIONS * int(differ.argmax())
        raise UserError(
            f"{rows.path}: it has one row per caption, but rows {first} to {first + CAPTIONS - 1} differ; put the "
            "five rows of an image together"
        )
    return np.ascontiguousarray(source_BRF[::CAPTIONS])
