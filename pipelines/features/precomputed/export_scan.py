"""Exports a feature set to SCAN's format, so that public code can train and evaluate on the same features.

`train`, `val` and `test` become `{train,dev,test}_ims.npy` (N x R x F float32), `_caps.txt` and `_ids.txt` (keys).
Every float16 value is exact in float32, so importing an export gives the same regions, captions and keys.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from infra.errors import UserError
from pipelines.datasets.manifest import SPLITS
from pipelines.features.feature_set import FeatureSet
from pipelines.features.precomputed.exported_files import Exported, complete_files, partial_file
from pipelines.features.precomputed.float16 import to_float32
from pipelines.features.precomputed.scan import NAMES
from pipelines.features.precomputed.scan_text import CAPTIONS
from pipelines.features.precomputed.shard_import import OnPhotos
from pipelines.features.split import Split

_BATCH = 32


def export_scan(features: FeatureSet, folder: Path, progress: OnPhotos) -> Exported:
    """Writes the photos with captions of every split. The files get their final names when all of them are complete.

    `progress` is called with numbers of photos. Raises UserError, before anything is written, if one of the files
    exists, if numbers of regions differ, or if a photo has captions, but fewer than five.
    """
    present = {shard.split for shard in features.index.shards if shard.written}
    found = [features.split(name) for name in SPLITS if name in present]
    splits = [captioned for split in found if len(captioned := split.captioned())]
    if not splits:
        raise UserError(
            f"{features.uri}: it contains no photo with captions to export; extract a data set with captions"
        )
    notes = _check(features, splits)
    if left_out := sum(map(len, found)) - sum(map(len, splits)):
        notes.append(f"{left_out} photos without captions are not exported")
    names = [f"{NAMES[split.name]}_{kind}" for split in splits for kind in ("ims.npy", "caps.txt", "ids.txt")]
    with complete_files(folder, names):
        for split in splits:
            _write_split(split, folder, features.index.detector.feature_dim, progress)
    return Exported({split.name: len(split) for split in splits}, notes)


def _check(features: FeatureSet, splits: Sequence[Split]) -> list[str]:
    min_regions, max_regions = features.index.detector.region_range
    if min_regions != max_regions:
        raise UserError(
            f"{features.uri}: its photos have {min_regions} to {max_regions} regions, SCAN's format needs the "
            "same number for all; export with --feature-format tsv, or extract with a fixed number of regions"
        )
    surplus = 0
    for split in splits:
        for key, captions in zip(split.keys, split.captions_of_photos, strict=True):
            count = len(captions)
            if count < CAPTIONS:
                raise UserError(
                    f"{features.uri}: photo {key} has {count} captions; SCAN's format needs five per photo; "
                    "export with --feature-format tsv, or extract a data set with five captions per photo"
                )
            surplus += count - CAPTIONS
    notes = [f"{surplus} captions left out: public code reads the first five per photo"] if surplus else []
    if features.rejected:
        notes.append(f"{len(features.rejected)} rejected photos of the feature set are not exported")
    return notes


def _write_split(split: Split, folder: Path, width: int, progress: OnPhotos) -> None:
    name = NAMES[split.name]
    regions = len(split[:1][0])
    # Plain writes: a full disk raises an error here, but kills a process that writes to a mapped file.
    with partial_file(folder, f"{name}_ims.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(split), regions, width)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(split), _BATCH):
            block_BRF = split[start : start + _BATCH]
            file.write(to_float32(np.asarray(block_BRF)).data)
            progress(len(block_BRF))
    captions = [" ".join(text.split("\n")) for photo in split.captions_of_photos for text in photo[:CAPTIONS]]
    _write_lines(partial_file(folder, f"{name}_caps.txt"), [text.replace("\r", " ") for text in captions])
    _write_lines(partial_file(folder, f"{name}_ids.txt"), split.keys)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
