"""Writes an index of more photos than there are: those of an index, filled up with photos composed of their regions.

    python -m tests.benchmarks.composed_index URI OUTPUT --photos 100000

A composed photo has half of the encoded regions of each of two photos, without captions, in split `gallery`. The
candidate search is the one that `jobs.index` would build. For `search_recall` and `service_load`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from infra.storage.base import Store
from infra.storage.open import open_store
from infra.tracking import TrackingConfig
from pipelines.features.layout import INDEX, snapshot_name
from pipelines.search.candidate_search import IVF_FROM
from pipelines.search.gallery import HeldGallery
from pipelines.search.index import SearchIndex
from pipelines.search.index_commands import load_version
from pipelines.search.index_format import Gallery, IndexDocument, read_index_document
from pipelines.search.partition import Partition
from pipelines.search.partition_writer import PartitionFiles, commit_partition
from tests.benchmarks.search import with_lists

AT_ONCE, PER_PARTITION = 256, 4096


@torch.inference_mode()
def compose(index: SearchIndex, document: IndexDocument, output: Store, photos: int) -> IndexDocument:
    """Writes the index and returns its document. Of fewer photos than the index has, there are the first ones."""
    held, dataset = index.gallery("photos"), document.features[0].dataset
    real = min(held.total, photos)
    parts = [(split, start, end) for split, edges in (("test", (0, real)), ("gallery", (real, photos)))
             for start, end in _cut(*edges)]  # fmt: skip
    partitions = list[Partition]()
    for number, (split, start, end) in enumerate(tqdm(parts, desc="partitions")):
        with TemporaryDirectory() as folder:
            files = PartitionFiles(Path(folder), index.shan.config.joint_dim)
            for at in range(start, end, AT_ONCE):
                rows = np.arange(at, min(at + AT_ONCE, end))
                items = held.vectors(rows) if split == "test" else _composed(held, rows, real)
                pooled, no_boxes = index.shan.alignment.pooled_photos(items), np.zeros((0, 4), np.float32)
                files.add(items, pooled, [no_boxes] * len(rows), [_row(held, row, real) for row in rows])
            name = f"photos-{split}-{number:06d}-00000000"
            partitions.append(commit_partition(output, name, dataset, (), files))
    gallery = Gallery(tuple(partitions))
    gallery = with_lists(output, gallery) if photos >= IVF_FROM else gallery
    composed = IndexDocument.build(document.model, document.features[:1], {"photos": gallery})
    for name in (snapshot_name(composed.index), INDEX):
        output.replace(name, composed.to_json())
    return composed


def _cut(start: int, end: int) -> Iterator[tuple[int, int]]:
    for at in range(start, end, PER_PARTITION):
        yield at, min(at + PER_PARTITION, end)


def _composed(held: HeldGallery, rows: np.ndarray, real: int) -> list[Tensor]:
    """Returns encoded photos, each of the even regions of one photo and the odd regions of another one."""
    first, second = np.random.default_rng(int(rows[0])).integers(0, real, (2, len(rows)))
    return [torch.cat([a[::2], b[1::2]]) for a, b in zip(held.vectors(first), held.vectors(second), strict=True)]


def _row(held: HeldGallery, row: int, real: int) -> dict[str, object]:
    about = {"key": f"composed{row}", "source": f"composed{row}.jpg", "captions": [], "width": None, "height": None}
    if row < real:
        item = held.item(int(row))
        about |= {"key": f"{row}-{item.key}", "source": item.source, "captions": list(item.captions)}
    return about


def main() -> None:
    """Writes the index and prints its URI."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.composed_index", description=__doc__)
    parser.add_argument("index")
    parser.add_argument("output")
    parser.add_argument("--photos", type=int, required=True)
    arguments = parser.parse_args()
    store, document = read_index_document(arguments.index)
    photos = {"photos": document.galleries["photos"]}
    index = SearchIndex.of(
        store, replace(document, galleries=photos), load_version(document.model.uri, TrackingConfig())
    )
    output = open_store(str(Path(arguments.output).absolute()))
    print(f"{output.uri}@{compose(index, document, output, arguments.photos).index[:12]}")


if __name__ == "__main__":
    main()
