"""Names of a search index and of every object in it. This module is their only owner.

Names of the index and of its snapshots, and URIs, are those of a feature set (`pipelines.features.layout`).

All objects lie directly below the index's URI:

| object | content |
|---|---|
| `<partition>.vectors.npy` | `vector_rows`, V rows: encoded regions of the photos, or words of the captions |
| `<partition>.pooled.npy` | float16, N x D: normalised mean, or matcher's own vector, of every item, for candidates |
| `<partition>.boxes.npy` | float32, B x 4: boxes of the regions; empty for captions |
| `<partition>.items.arrow` | Arrow IPC file, a row per item: `TABLE` |
| `<partition>.receipt.json` | sizes and checksums of these: the partition is complete when this exists |
| `<gallery>-<12 hex>.centroids.npy` | float32, L x D: centroids of the lists of `ivf` |
| `<partition>.<12 hex>.lists.npy` | int32, N: list of every item, for the centroids with these hex digits |
| `failure.json` | why the last build failed; deleted by one that completes |
| `index.json` | the current index, written last |
| `snapshot-<12 hex>.json` | every index so far, by its digest |

A partition is `<photos or captions>-<split>-<NNNNNN>-<8 hex>`; the hex digits hash the shards that it encodes.
"""

import re

import pyarrow as pa

from pipelines.datasets.manifest import SPLITS

FORMAT = "shan-index/1"
"""Version of the stored format. Every index and receipt carries it."""
GALLERIES = ("photos", "captions")
ARRAYS = ("vectors", "pooled", "boxes")
FILES = (*ARRAYS, "items")
TABLE = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("vectors", pa.int32()),
        ("boxes", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)
"""Columns of a partition's items: key and source of the photo; its captions, or the one caption; numbers of vectors and
boxes; width and height of the photo in pixels, null if unknown."""

_PARTITION = rf"(?:{'|'.join(GALLERIES)})-(?:{'|'.join(SPLITS)})-\d{{6,}}-[0-9a-f]{{8}}"
PARTITION_NAME = re.compile(_PARTITION)
KINDS = {
    "snapshot": re.compile(r"snapshot-[0-9a-f]{12}\.json"),
    "receipt": re.compile(rf"{_PARTITION}\.receipt\.json"),
    "lists": re.compile(rf"{_PARTITION}\.[0-9a-f]{{12}}\.lists\.npy"),
    "centroids": re.compile(rf"(?:{'|'.join(GALLERIES)})-[0-9a-f]{{12}}\.centroids\.npy"),
    "partition": re.compile(rf"{_PARTITION}\.(?:vectors\.npy|pooled\.npy|boxes\.npy|items\.arrow)"),
}
"""Objects of which an index can have many, in the order in which they may be deleted."""


def file_name(partition: str, file: str) -> str:
    """Returns the object name of one of a partition's FILES."""
    return f"{partition}.{file}.{'arrow' if file == 'items' else 'npy'}"


def partition_receipt_name(partition: str) -> str:
    """Returns the object name of a partition's receipt."""
    return f"{partition}.receipt.json"


def partition_of(name: str) -> str:
    """Returns the partition that an object of one belongs to, such as its receipt."""
    return name.partition(".")[0]


def lists_name(partition: str, identity: str) -> str:
    """Returns the object name of a partition's lists in the candidate search with this identity."""
    return f"{partition}.{identity[:12]}.lists.npy"


def centroids_name(gallery: str, identity: str) -> str:
    """Returns the object name of the centroids of a gallery's candidate search."""
    return f"{gallery}-{identity[:12]}.centroids.npy"
