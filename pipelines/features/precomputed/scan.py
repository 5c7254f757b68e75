"""SCAN's layout to a feature set: `{train,dev,test}_ims.npy` N x R x F, `_caps.txt` five lines an image, `_ids.txt`.

Source: the folders that SCAN (Lee et al., ECCV 2018) published and that its successors read. `dev` becomes `val`;
`testall` (COCO's 5K) is `test` where there is no `test`. Older folders hold an image's row five times, once a caption.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from pipelines.datasets.manifest import Manifest, Photo, safe_key
from pipelines.extraction.shard_plan import Group
from pipelines.features.precomputed.halves import flaw_of, to_halves
from pipelines.features.precomputed.npy_rows import NpyRows
from pipelines.features.precomputed.scan_text import CAPTIONS, read_ids, read_lines
from pipelines.features.precomputed.shard_import import Content, Imported, Progress, ShardImport, describe
from pipelines.features.precomputed.source_files import source_fingerprint
from pipelines.features.shards import Rejection, Sample

DETECTOR = "precomputed-scan"
NAMES = {"train": "train", "val": "dev", "test": "test"}
"""A split's name here to its name there."""


@dataclass(frozen=True)
class _Split:
    rows: NpyRows
    repeats: int
    """Rows of an image: 1, or 5 where there is one a caption."""
    photos: tuple[Photo, ...]


def import_scan(
    folder: Path, output: str, dataset_name: str | None, photos_per_shard: int, progress: Progress
) -> Imported:
    """The feature set of a folder in SCAN's layout, below the root `output`; the folder's name is the data set's if
    none is given. Boxes, classes and sizes of photos are not in the layout: boxes are 0 x 4, sizes are left out.

    Raises UserError for a folder that is not in the layout; an image whose features float16 cannot hold is rejected.
    """
    notes: list[str] = []
    splits = _unique_keys(_read_splits(folder, notes), notes)
    shapes = {split.rows.shape[1:] for split in splits}
    if len(shapes) > 1:
        raise UserError(f"{folder}: its splits differ in regions x width {sorted(shapes)}; import one kind at a time")
    ((regions, width),) = shapes
    name = safe_key(dataset_name or folder.absolute().name)
    manifest = Manifest.build(name, str(folder.absolute()), [photo for split in splits for photo in split.photos])
    fingerprint = source_fingerprint(DETECTOR, [split.rows.path for split in splits])
    with ShardImport(manifest, fingerprint, output, photos_per_shard, progress) as shards:
        for split in splits:
            for number, start in enumerate(range(0, len(split.photos), photos_per_shard)):
                photos = split.photos[start : start + photos_per_shard]
                group = Group(photos[0].split, number, photos)
                shards.add(group, lambda s=split, p=photos, at=start: _content(s, p, at))  # type: ignore[misc]
        return shards.finish(lambda _: describe(DETECTOR, width, (regions, regions)), notes)


def _read_splits(folder: Path, notes: list[str]) -> list[_Split]:
    there = {ours: name for ours, name in NAMES.items() if (folder / f"{name}_ims.npy").is_file()}
    if (folder / "testall_ims.npy").is_file():
        if "test" in there:
            notes.append("testall_ims.npy is left out: test_ims.npy is the test split")
        else:
            there["test"] = "testall"
    if not there:
        raise UserError(f"{folder}: no train_ims.npy, dev_ims.npy or test_ims.npy; pass a folder in SCAN's layout")
    return [_read_split(folder, ours, name) for ours, name in there.items()]


def _read_split(folder: Path, split: str, name: str) -> _Split:
    rows = NpyRows.open(folder / f"{name}_ims.npy")
    captions = read_lines(folder / f"{name}_caps.txt")
    count = rows.shape[0]
    if len(captions) not in (CAPTIONS * count, count) or len(captions) % CAPTIONS:
        raise UserError(
            f"{rows.path}: {count} images and {len(captions)} lines in {name}_caps.txt; SCAN's layout has five an image"
        )
    repeats = 1 if len(captions) == CAPTIONS * count else CAPTIONS
    images = count // repeats
    ids = read_ids(folder / f"{name}_ids.txt", images)
    keys = [safe_key(id_) for id_ in ids] if ids else [f"{split}-{row:06d}" for row in range(images)]
    sources = ids or [f"{rows.path.name}#{row * repeats}" for row in range(images)]
    photos = tuple(
        Photo(key, source, split, tuple(captions[CAPTIONS * row : CAPTIONS * (row + 1)]))
        for row, (key, source) in enumerate(zip(keys, sources, strict=True))
    )
    return _Split(rows, repeats, photos)


def _unique_keys(splits: Sequence[_Split], notes: list[str]) -> list[_Split]:
    """Ids that start anew in every split get its name in front, all of them; `Manifest.build` sees the rest."""
    count = Counter(key for split in splits for key in {photo.key for photo in split.photos})
    if max(count.values()) == 1:
        return list(splits)
    notes.append("image ids repeat from split to split, so keys have the split's name in front")
    return [
        replace(split, photos=tuple(replace(photo, key=f"{photo.split}-{photo.key}") for photo in split.photos))
        for split in splits
    ]


def _content(split: _Split, photos: Sequence[Photo], start: int) -> Content:
    """Samples and rejections of consecutive images from `start`."""
    source_BRF = split.rows.read(start * split.repeats, len(photos) * split.repeats)
    if split.repeats > 1:
        source_BRF = _one_of_five(split.rows, source_BRF, start * split.repeats)
    halves_BRF = to_halves(source_BRF)
    samples, rejected = [], []
    for photo, halves_RF, source_RF in zip(photos, halves_BRF, source_BRF, strict=True):
        flaw = flaw_of(halves_RF, source_RF)
        if flaw:
            rejected.append(Rejection(photo.key, photo.source, flaw))
            continue
        meta = {"source": photo.source, "captions": photo.captions, "sha256": "", "classes": [], "confidences": []}
        samples.append(Sample(photo.key, halves_RF, np.empty((0, 4), np.float32), meta))
    return samples, rejected


def _one_of_five(rows: NpyRows, source_BRF: NDArray[np.floating], start: int) -> NDArray[np.floating]:
    """The first of each five rows, which must be the same to the bit."""
    images = len(source_BRF) // CAPTIONS
    bits = source_BRF.view(f"u{source_BRF.itemsize}").reshape(images, CAPTIONS, -1)
    differ = (bits != bits[:, :1]).any(axis=(1, 2))
    if differ.any():
        first = start + CAPTIONS * int(differ.argmax())
        raise UserError(
            f"{rows.path}: it has a row a caption, and rows {first} to {first + CAPTIONS - 1} are not one image five "
            "times; put an image's captions and rows together"
        )
    return np.ascontiguousarray(source_BRF[::CAPTIONS])
