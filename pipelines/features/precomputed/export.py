"""A feature set to SCAN's layout, so that public code trains and scores on the same features.

`train`, `val` and `test` become `{train,dev,test}_ims.npy` (N x R x F float32), `_caps.txt` and `_ids.txt` (keys). What
float16 holds is exact in float32, so importing an export gives the same regions, captions and keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infra.errors import UserError
from infra.storage.open import require_folder
from pipelines.datasets.manifest import SPLITS
from pipelines.features.feature_set import FeatureSet, Split
from pipelines.features.precomputed.halves import to_floats
from pipelines.features.precomputed.scan import NAMES
from pipelines.features.precomputed.scan_text import CAPTIONS
from pipelines.features.precomputed.shard_import import Progress

_PHOTOS_AT_ONCE = 32


@dataclass(frozen=True)
class Exported:
    """What was written: photos by split, and what differs from the feature set, a line each."""

    photos: dict[str, int]
    notes: list[str]


def export_scan(features: FeatureSet, folder: Path, progress: Progress) -> Exported:
    """Writes every split that holds a photo. The files get their names when all of them are whole.

    UserError, before anything is written, if one of them exists, numbers of regions differ, or a photo has fewer than
    five captions.
    """
    splits = [features.split(name) for name in SPLITS if any(r.split == name and r.written for r in features.receipts)]
    if not splits:
        raise UserError(f"{features.uri}: it holds no photo; nothing to export")
    require_folder(folder, "PATH")
    names = [f"{NAMES[split.name]}_{kind}" for split in splits for kind in ("ims.npy", "caps.txt", "ids.txt")]
    taken = [name for name in names if (folder / name).exists()]
    if taken:
        raise UserError(f"{folder}/{taken[0]} is there already; export to another folder or take it away")
    notes = _check(features, splits)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split in splits:
            _write_split(split, folder, features.index["detector"]["feature_dim"], progress)
        for name in names:
            _partial(folder, name).rename(folder / name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}); make room and run again") from error
    return Exported({split.name: len(split) for split in splits}, notes)


def _partial(folder: Path, name: str) -> Path:
    """Where a file is until it is whole; what a killed run left there is written over."""
    return folder / f".{name}.partial"


def _check(features: FeatureSet, splits: Sequence[Split]) -> list[str]:
    fewest, most = features.index["detector"]["regions"]
    if fewest != most:
        raise UserError(
            f"{features.uri}: its photos have {fewest} to {most} regions; SCAN's layout takes one number, "
            "so extract with a fixed one"
        )
    surplus = 0
    for split in splits:
        for key, meta in zip(split.keys, split.meta, strict=True):
            count = len(meta["captions"])
            if count < CAPTIONS:
                raise UserError(f"{features.uri}: photo {key} has {count} captions; SCAN's layout needs five a photo")
            surplus += count - CAPTIONS
    notes = [f"{surplus} captions left out: public code takes five a photo, the first ones"] if surplus else []
    if features.rejected:
        notes.append(f"{len(features.rejected)} rejected photos of the feature set have no row")
    return notes


def _write_split(split: Split, folder: Path, width: int, progress: Progress) -> None:
    name = NAMES[split.name]
    regions = len(split[:1][0])
    # Plain writes: a full disk is an error here, and kills a process that writes to a mapped file.
    with _partial(folder, f"{name}_ims.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(split), regions, width)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(split), _PHOTOS_AT_ONCE):
            block_BRF = split[start : start + _PHOTOS_AT_ONCE]
            file.write(to_floats(np.asarray(block_BRF)).data)
            progress(len(block_BRF))
    captions = [" ".join(text.split("\n")) for meta in split.meta for text in meta["captions"][:CAPTIONS]]
    _write_lines(_partial(folder, f"{name}_caps.txt"), [text.replace("\r", " ") for text in captions])
    _write_lines(_partial(folder, f"{name}_ids.txt"), split.keys)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
