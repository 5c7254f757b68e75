"""The manifest: one Arrow table of photos, captions and splits, checked once and then trusted.

Stored as Parquet. Columns: `key` (safe as a webdataset key), `source` (below the root, or a URI of its own), `split`,
`captions`, `version_token`. Root (schema metadata) and version tokens do not enter the digest, so moving the photos
changes nothing.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import UserError
from infra.redaction import redact

SPLITS = ("train", "val", "test")
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("version_token", pa.string()),
    ]
)


@dataclass(frozen=True)
class Photo:
    """One row: a photo that a manifest lists."""

    key: str
    source: str
    split: str
    captions: tuple[str, ...]
    version_token: str = ""
    """Tells cheaply whether the photo has changed (`pipelines.datasets.photo_sources.version_tokens`)."""


@dataclass(frozen=True)
class Manifest:
    """A named table of photos below one root (a folder, a prefix or a tar)."""

    name: str
    root: str
    table: pa.Table

    @classmethod
    def build(cls, name: str, root: str, photos: Iterable[Photo]) -> "Manifest":
        """Checks every row; UserError names the first photo that has no caption, a strange split or a taken key."""
        rows = list(photos)
        taken: dict[str, str] = {}
        for photo in rows:
            if photo.split not in SPLITS:
                raise UserError(f"{photo.source}: split '{photo.split}' is none of {', '.join(SPLITS)}; correct it")
            if not re.fullmatch(r"[A-Za-z0-9_-]+", photo.key):
                raise UserError(f"{photo.source}: key '{photo.key}' is not of A-Z, a-z, 0-9, _ and -; rename it")
            if escapes_root(photo.source):
                raise UserError(f"{photo.source}: a photo's path must stay below the photo root; correct it")
            if redact(photo.source.partition("?")[0]) != photo.source.partition("?")[0]:
                raise UserError(
                    f"{redact(photo.source)}: it was given with a user or password; take them out of the URI"
                )
            if not photo.captions:
                raise UserError(f"{photo.source}: it has no caption; give it one or take it out of the data set")
            if not all(caption.strip() for caption in photo.captions):
                raise UserError(f"{photo.source}: it has an empty caption; write one or take it out of the data set")
            if taken.get(photo.key) == photo.source:
                raise UserError(f"{photo.source} is listed twice; take one of them out of the data set")
            if photo.key in taken:
                raise UserError(f"{photo.source} and {taken[photo.key]} share the key {photo.key}; rename one of them")
            taken[photo.key] = photo.source
        if not rows:
            raise UserError(f"data set {name} lists no photo; check the file it was read from")
        try:
            table = pa.Table.from_pylist([vars(row) for row in rows], schema=SCHEMA)
        except UnicodeEncodeError as error:
            raise UserError(
                f"data set {name}: a caption or name is no valid Unicode ({error.reason}); correct it"
            ) from error
        return cls(name, root, table)

    def photos(self, split: str | None = None) -> Iterator[Photo]:
        """The rows in order, all or those of one split."""
        for batch in self.table.to_batches(max_chunksize=10_000):
            for row in batch.to_pylist():
                if split in (None, row["split"]):
                    yield Photo(**{**row, "captions": tuple(row["captions"])})

    def digest(self) -> str:
        """sha256 of name, keys, sources, splits and captions in order: the first link of the lineage."""
        digest = hashlib.sha256(json.dumps([self.name]).encode())
        for photo in self.photos():
            digest.update(json.dumps([photo.key, photo.source, photo.split, photo.captions]).encode())
        return digest.hexdigest()

    def to_parquet(self) -> bytes:
        """The table as a Parquet file, with name and root in its metadata."""
        metadata = {"dataset": self.name, "root": self.root}
        sink = pa.BufferOutputStream()
        pq.write_table(self.table.replace_schema_metadata(metadata), sink)
        return sink.getvalue().to_pybytes()

    @classmethod
    def from_parquet(cls, data: bytes, origin: str) -> "Manifest":
        """Reads and checks a manifest; UserError, naming its `origin`, if it is not one."""
        try:
            table = _table(data)
            metadata = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
            rows = [Photo(**{**row, "captions": tuple(row["captions"])}) for row in table.to_pylist()]
        except (OSError, TypeError, ValueError) as error:
            raise UserError(f"{origin}: not a readable manifest ({error}); extract the data set again") from error
        return cls.build(metadata["dataset"], metadata["root"], rows)


def _table(data: bytes) -> pa.Table:
    # One thread: Arrow's pool can abort the process at its end (apache/arrow#34314).
    table = pq.read_table(pa.BufferReader(data), use_threads=False)
    if not table.schema.remove_metadata().equals(SCHEMA) or not {b"dataset", b"root"} <= set(
        table.schema.metadata or ()
    ):
        raise ValueError(f"its columns are {table.column_names}")
    return table


def escapes_root(source: str) -> bool:
    """Whether a photo's path, which is to be below the root, is not. A URI of its own is no path."""
    return "://" not in source and (source.startswith("/") or ".." in source.split("/"))


def safe_key(source: str) -> str:
    """A photo's file name without its ending as a webdataset key: `[A-Za-z0-9_-]+`, every other character as `_`."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", PurePosixPath(source).stem)
