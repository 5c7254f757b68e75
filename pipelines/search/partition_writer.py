"""Encodes the shards of a partition and commits it: every file with one conditional write, then the receipt."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.errors import UserError
from infra.storage.base import Store, put_if_changed
from infra.storage.disk import names_full_disk
from infra.storage.pieces import file_pieces, object_pieces
from infra.storage.process_folder import temporary_folder
from pipelines.features.layout import tar_name
from pipelines.features.npy import HEADER_BYTES
from pipelines.features.photo_table import PhotoTable
from pipelines.features.shard_reader import StoredShards
from pipelines.features.split import Split
from pipelines.features.stored_receipts import StoredReceipts
from pipelines.search.index_plan import PartitionTask
from pipelines.search.layout import ARRAYS, TABLE, file_name, partition_receipt_name
from pipelines.search.partition import Partition, StoredFile, read_partition_receipt
from pipelines.search.vector_rows import VectorType, columns, encode_rows, rows_are_finite
from shan_model.model import SHAN

PHOTOS, CAPTIONS = 64, 256
"""Photos and captions that are encoded at once. Fixed, because sums of other shapes differ in their last digits."""
_FULL_DISK = "free space, or set TMPDIR to a folder on a larger disk"


@dataclass
class NpyFile:
    """A matrix that grows by rows in a temporary file, and its bytes as .npy."""

    path: Path
    dtype: np.dtype[Any]
    width: int
    rows: int = 0

    def __post_init__(self) -> None:
        """Leaves room for the header, which is known at the end."""
        self.path.write_bytes(bytes(HEADER_BYTES))

    def append(self, matrix: NDArray[Any]) -> None:
        """Adds rows."""
        assert matrix.shape[1:] == (self.width,)
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(matrix, self.dtype).tobytes())
        self.rows += len(matrix)

    def pieces(self) -> Iterator[bytes]:
        """Writes the header and yields the bytes of the file."""
        header = io.BytesIO()
        described = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, self.width)}
        np.lib.format.write_array_header_1_0(header, described)
        assert header.tell() == HEADER_BYTES
        with self.path.open("r+b") as file:
            file.write(header.getvalue())
            yield from file_pieces(file)


@dataclass
class PartitionFiles:
    """The arrays and the table of a partition while it is encoded."""

    folder: Path
    width: int
    kind: VectorType = "float16"
    arrays: dict[str, NpyFile] = field(init=False)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Creates the files."""
        columns_ = {"vectors": columns(self.kind, self.width), "pooled": self.width, "boxes": 4}
        types = {"vectors": self.kind, "pooled": "float16", "boxes": "float32"}
        self.arrays = {name: NpyFile(self.folder / name, np.dtype(types[name]), columns_[name]) for name in ARRAYS}

    def add(
        self,
        items: Sequence[Tensor],
        pooled_ND: Tensor,
        boxes: Sequence[NDArray[np.float32]],
        rows: list[dict[str, Any]],
    ) -> None:
        """Adds items: the vectors of each, its pooled vector, its boxes, and its row of the table without two numbers.

        Raises UserError for a vector beyond the type that stores it.
        """
        self.arrays["pooled"].append(pooled_ND.cpu().numpy())
        for item_ND, boxes_B4, row in zip(items, boxes, rows, strict=True):
            stored = encode_rows(item_ND.cpu().numpy(), self.kind)
            if not rows_are_finite(stored):
                raise UserError(f"{row['source']}: its encoding is beyond {self.kind}; use another model")
            self.arrays["vectors"].append(stored)
            self.arrays["boxes"].append(boxes_B4)
            self.rows.append(row | {"vectors": len(stored), "boxes": len(boxes_B4)})

    def table_pieces(self) -> Iterator[bytes]:
        """Yields the bytes of the Arrow IPC file."""
        buffer = io.BytesIO()
        with pa.ipc.new_file(buffer, TABLE) as writer:
            writer.write_table(pa.Table.from_pylist(self.rows, TABLE))
        yield buffer.getvalue()


def write_partition(store: Store, task: PartitionTask, features: Store, shan: SHAN, kind: VectorType) -> Partition:
    """Encodes a partition and writes it. Returns the partition that is stored, which another process may have written.

    A shard and a few encoded photos are in memory at a time. Raises UserError for a corrupt shard.
    """
    with temporary_folder("shan-index-") as folder, names_full_disk(folder, _FULL_DISK):
        files = PartitionFiles(folder, shan.config.joint_dim, kind)
        for shard in task.shards:
            photos = PhotoTable.read((shard,), StoredReceipts(features, (shard,)))
            shards = StoredShards(features, {tar_name(shard.name): shard.sha256})
            _encode(Split(task.split, features, photos, "", shards), task.gallery, shan, files)
        return commit_partition(store, task.name, task.dataset, [shard.name for shard in task.shards], files)


def commit_partition(store: Store, name: str, dataset: str, shards: Sequence[str], files: PartitionFiles) -> Partition:
    """Writes the files of a partition, then its receipt. Returns the partition that is stored.

    A second writer adopts what the first one wrote. A receipt that is corrupt, or of files that were lost since, is
    replaced.
    """
    arrays, earlier = files.arrays, read_partition_receipt(store, name)
    known = {} if earlier is None else earlier.files
    pieces = {file: array.pieces for file, array in arrays.items()} | {"items": files.table_pieces}
    stored = {file: put_file(store, file_name(name, file), read, known.get(file)) for file, read in pieces.items()}
    counts = len(files.rows), arrays["vectors"].rows, arrays["boxes"].rows, files.width
    partition = Partition(name, dataset, *counts, tuple(shards), stored)
    if not store.put_if_absent(partition_receipt_name(name), partition.to_json()):
        put_if_changed(store, partition_receipt_name(name), partition.to_json())
    return partition


def put_file(
    store: Store, name: str, pieces: Callable[[], Iterator[bytes]], receipt: StoredFile | None = None
) -> StoredFile:
    """Writes a file, or adopts the one that exists. Returns what is stored.

    An adopted file may differ in the last digits, if another kind of machine wrote it. Raises UserError if it has
    another size, or is neither this file nor that of the receipt.
    """
    digest, size = sha256(), 0

    def hashed() -> Iterator[bytes]:
        nonlocal size
        for piece in pieces():
            digest.update(piece)
            size += len(piece)
            yield piece

    if store.put_if_absent(name, hashed()):
        return StoredFile(size, digest.hexdigest())
    stored = stored_file(store, name)
    if stored.size != size:
        raise UserError(f"{store.uri}/{name} has {stored.size} bytes, expected {size}; delete it and run again")
    if receipt is not None and stored not in (receipt, StoredFile(size, digest.hexdigest())):
        raise UserError(f"{store.uri}/{name} does not have the sha256 in its receipt; delete it and run again")
    return stored


def stored_file(store: Store, name: str) -> StoredFile:
    """Returns size and checksum of an object. FileNotFoundError for a missing one."""
    digest, size = sha256(), 0
    for piece in object_pieces(store, name):
        digest.update(piece)
        size += len(piece)
    return StoredFile(size, digest.hexdigest())


@torch.inference_mode()
def _encode(split: Split, gallery: str, shan: SHAN, files: PartitionFiles) -> None:
    """Encodes the photos, or the captions, of one shard."""
    no_boxes = np.empty((0, 4), np.float32)
    if gallery == "captions":
        # Reads complete tars for the few bytes of captions: one request a shard, which also verifies it. From a
        # bucket, a request for the member of each photo was slower.
        found = [_row(split, row, caption) for row in range(len(split)) for caption in split.meta[row]["captions"]]
        for at in range(0, len(found), CAPTIONS):
            rows = found[at : at + CAPTIONS]
            words = list(shan.encode_captions([row["captions"][0] for row in rows]))
            files.add(words, shan.alignment.pooled_captions(words), [no_boxes] * len(rows), rows)
        return
    for at in range(0, len(split), PHOTOS):
        regions = split[at : at + PHOTOS]
        photos = range(at, at + len(regions))
        if isinstance(regions, np.ndarray):
            encoded: Sequence[Tensor] = list(shan.encode_photos(torch.from_numpy(regions).to(shan.device)))
        else:
            encoded = shan.encode_photos([torch.from_numpy(np.array(x)).to(shan.device) for x in regions])
        boxes, rows = [split.boxes(row) for row in photos], [_row(split, row) for row in photos]
        files.add(encoded, shan.alignment.pooled_photos(encoded), boxes, rows)


def _row(split: Split, row: int, caption: str | None = None) -> dict[str, Any]:
    meta = split.meta[row]
    captions = meta["captions"] if caption is None else [caption]
    size = {name: meta.get(name) for name in ("width", "height")}
    return {"key": split.keys[row], "source": meta["source"], "captions": list(captions), **size}
