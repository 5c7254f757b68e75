"""Exports a feature set as bottom-up-attention TSV, in which photos may differ in their number of regions.

Each split becomes `{split}.tsv` in the order of six columns; image_id is the photo's key. Every float16 value is exact
in float32, so importing an export gives the same regions, boxes and keys.
"""

from base64 import b64encode
from pathlib import Path

import numpy as np

from infra.errors import UserError
from pipelines.datasets.manifest import SPLITS
from pipelines.features.feature_set import FeatureSet
from pipelines.features.precomputed.exported_files import Exported, complete_files, partial_file
from pipelines.features.precomputed.float16 import to_float32
from pipelines.features.precomputed.shard_import import OnPhotos
from pipelines.features.split import Split


def export_tsv(features: FeatureSet, folder: Path, progress: OnPhotos) -> Exported:
    """Writes all photos of every split. The files get their final names when all of them are complete.

    `progress` is called with numbers of photos. Raises UserError, before anything is written, if one of the files
    exists or if the photos have no boxes.
    """
    present = {shard.split for shard in features.index.shards if shard.written}
    splits = [features.split(name) for name in SPLITS if name in present]
    if not splits:
        raise UserError(f"{features.uri}: it contains no photo to export; extract images that can be read")
    if not len(splits[0].boxes(0)) or "width" not in splits[0].meta_of(0):
        raise UserError(
            f"{features.uri}: its photos have no boxes, which a TSV needs; export with --feature-format scan"
        )
    names = [f"{split.name}.tsv" for split in splits]
    with complete_files(folder, names):
        for split, name in zip(splits, names, strict=True):
            _write_split(split, partial_file(folder, name), progress)
    notes = ["classes, confidences and captions are not exported"]
    if features.rejected:
        notes.append(f"{len(features.rejected)} rejected photos of the feature set are not exported")
    return Exported({split.name: len(split) for split in splits}, notes)


def _write_split(split: Split, path: Path, progress: OnPhotos) -> None:
    with path.open("wb") as file:
        for row, key in enumerate(split.keys):
            regions_RF, boxes_R4, meta = to_float32(split[row : row + 1][0]), split.boxes(row), split.meta_of(row)
            columns = (key, meta["width"], meta["height"], len(regions_RF))
            arrays = (b64encode(np.ascontiguousarray(array, "<f4").tobytes()) for array in (boxes_R4, regions_RF))
            file.write("\t".join(map(str, columns)).encode() + b"\t" + b"\t".join(arrays) + b"\n")
            progress(1)
