"""The manifest: a validated Arrow table of the photos, captions and splits of a data set.

Stored as Parquet with the columns `key` (valid as a WebDataset key), `source` (a path below the root, or a URI),
`split`, `captions` and `version_token`. The schema metadata hold `format` (the format version), `dataset` (the name)
and `root`. Root and version tokens do not enter the digest, so moving the photos does not change it.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import UserError
from infra.redaction import redact
from shan_model.vocabulary import has_word

FORMAT = "shan-manifest/2"
"""Format version; a change of columns, metadata, digest or permitted values needs a new one."""
READABLE = ("shan-manifest/1", FORMAT)
"""Format versions that can be read. In version 1 every photo has captions, and the split `gallery` does not exist."""
SPLITS = ("train", "val", "test", "gallery")
"""Splits in the order of a feature set. Photos of any split may have no captions."""
LEARNING_SPLITS = ("train", "val", "test")
"""Splits with which a model is trained and compared; `gallery` is only searched, unless it is named."""
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
    """One row of a manifest."""

    key: str
    source: str
    split: str
    captions: tuple[str, ...]
    version_token: str = ""
    """Changes when the photo does (`photo_sources.version_tokens`); empty if changes cannot be detected."""


@dataclass(frozen=True)
class Manifest:
    """A named table of photos below one root: a folder, a prefix URI or a tar file."""

    name: str
    root: str
    table: pa.Table

    @classmethod
    def build(cls, name: str, root: str, photos: Iterable[Photo]) -> "Manifest":
        """Returns the manifest of these photos; raises UserError naming the first photo that is not valid."""
        rows = list(photos)
        source_of_key: dict[str, str] = {}
        for photo in rows:
            _check(photo)
            if source_of_key.get(photo.key) == photo.source:
                raise UserError(f"{photo.source} is listed twice; remove one of the entries from the data set")
            if photo.key in source_of_key:
                raise UserError(
                    f"{photo.source} and {source_of_key[photo.key]} share the key {photo.key}; rename one of them"
                )
            source_of_key[photo.key] = photo.source
        if not rows:
            raise UserError(f"data set {name} lists no photo; check the data set file")
        try:
            table = pa.Table.from_pylist([vars(row) for row in rows], schema=SCHEMA)
        except UnicodeEncodeError as error:
            raise UserError(
                f"data set {name}: a caption or name is not valid Unicode ({error.reason}); correct it"
            ) from error
        return cls(name, root, table)

    def photos(self, split: str | None = None) -> Iterator[Photo]:
        """Yields the rows in order, all of them or those of one split."""
        for batch in self.table.to_batches(max_chunksize=10_000):
            for row in batch.to_pylist():
                if split in (None, row["split"]):
                    yield Photo(**{**row, "captions": tuple(row["captions"])})

    def digest(self) -> str:
        """Returns the sha256 of name, keys, sources, splits and captions, in order: the start of the data lineage."""
        digest = hashlib.sha256(json.dumps([self.name]).encode())
        for photo in self.photos():
            digest.update(json.dumps([photo.key, photo.source, photo.split, photo.captions]).encode())
        return digest.hexdigest()

    def to_parquet(self) -> bytes:
        """Returns the manifest as a Parquet file, with format version, name and root in the schema metadata."""
        metadata = {"format": FORMAT, "dataset": self.name, "root": self.root}
        sink = pa.BufferOutputStream()
        pq.write_table(self.table.replace_schema_metadata(metadata), sink)
        return sink.getvalue().to_pybytes()

    @classmethod
    def from_parquet(cls, data: bytes, origin: str) -> "Manifest":
        """Reads and validates a manifest; raises UserError naming `origin` if it is not a valid one."""
        try:
            # One thread: Arrow's thread pool can abort the process at exit (apache/arrow#34314).
            table = pq.read_table(pa.BufferReader(data), use_threads=False)
            columns = table.column_names  # raises ValueError for names that are not UTF-8
            metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        except (OSError, ValueError) as error:
            raise UserError(f"{origin}: not a readable manifest ({error}); extract the data set again") from error
        if metadata.get("format") not in READABLE:
            raise UserError(
                f"{origin}: manifest format is {metadata.get('format')!r}, expected {FORMAT!r}; "
                "extract the data set again, or read it with the version of this project that wrote it"
            )
        if not table.schema.remove_metadata().equals(SCHEMA) or not {"dataset", "root"} <= set(metadata):
            raise UserError(
                f"{origin}: not a valid manifest (columns {', '.join(columns)}); extract the data set again"
            )
        try:
            rows = [Photo(**{**row, "captions": tuple(row["captions"])}) for row in table.to_pylist()]
        except (TypeError, ValueError) as error:
            raise UserError(f"{origin}: not a readable manifest ({error}); extract the data set again") from error
        return cls.build(metadata["dataset"], metadata["root"], rows)


def escapes_root(source: str) -> bool:
    """Returns whether a photo's relative path leaves its root (path traversal); URIs are not relative paths."""
    return "://" not in source and (source.startswith("/") or ".." in source.split("/"))


def safe_key(source: str) -> str:
    """Returns a WebDataset key, `[A-Za-z0-9_-]+`: the file name without suffix, other characters replaced by `_`."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", PurePosixPath(source).stem)


def dataset_name(text: str) -> str:
    """Returns the name of a data set, a part of the names of its feature sets and models.

    Letters, digits (of any script), `_` and `-` stay. Other characters become `_`, and a hash of the text follows, so
    that different texts give different names. Unicode's composed and decomposed forms are the same text.
    """
    text = unicodedata.normalize("NFC", text)
    name = "".join(char if char in "_-" or unicodedata.category(char)[0] in "LMN" else "_" for char in text)
    return name if name == text else f"{name}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def _check(photo: Photo) -> None:
    """Raises UserError unless the row, by itself, is valid."""
    if photo.split not in SPLITS:
        raise UserError(f"{photo.source}: split is '{photo.split}'; it must be one of {', '.join(SPLITS)}")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", photo.key):
        raise UserError(f"{photo.source}: key is '{photo.key}'; use A-Z, a-z, 0-9, _ and - only")
    if escapes_root(photo.source):
        raise UserError(f"{photo.source}: a photo's path must stay below the photo root; correct the path")
    if redact(photo.source.partition("?")[0]) != photo.source.partition("?")[0]:
        raise UserError(f"{redact(photo.source)}: the URI contains a user or password; remove them")
    if not all(has_word(caption) for caption in photo.captions):
        raise UserError(f"{photo.source}: a caption has no word; fill it in or remove it from the data set")
