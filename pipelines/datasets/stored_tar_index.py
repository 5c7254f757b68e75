"""Stored indexes of tars: a tar whose version token is unchanged is not read again to list its images.

An index is an object below `INDEXES`, named by a hash of the tar's URI and version token: the sha256 of a Parquet file,
and the file, with what is wrong with the tar in its metadata. It may be deleted.
"""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import UserError
from infra.parquet import read_parquet
from infra.storage.base import Store
from infra.storage.open import open_store
from pipelines.datasets.tar_index import TarImage, TarIndex, index_tar, sample_key

INDEXES = "tar-indexes"
"""Folder below the root of feature sets."""
_FORMAT = "shan-tar-index/4"
_EARLIER = ("shan-tar-index/3", "shan-tar-index/2", "shan-tar-index/1")
"""They are also read, unless captions may be missing: for images without any, or with several dots in their names.

Version 1 has no metadata of what is wrong with a tar, and exists for sound tars only.
"""
_DIGEST_BYTES = hashlib.sha256().digest_size
_SCHEMA = pa.schema(
    [("member", pa.string()), ("start", pa.int64()), ("end", pa.int64()), ("captions", pa.list_(pa.string()))]
)


def read_tar_index(store: Store, name: str, folder: str) -> TarIndex:
    """Returns the index of a tar: the one stored below `folder` if it fits, else a new one.

    A new one is stored there, unless `folder` is empty. Raises as `index_tar`.
    """
    info = store.info(name)
    if info is None:
        raise FileNotFoundError(name)
    if not folder:
        return index_tar(store, name)
    indexes = open_store(f"{folder.rstrip('/')}/{INDEXES}")
    identity, *earlier = (json.dumps([f, f"{store.uri}/{name}", info.version_token]) for f in (_FORMAT, *_EARLIER))
    found = (index for each in earlier if (index := stored_tar_index(indexes, each)))
    index = stored_tar_index(indexes, identity) or next(filter(_has_all_captions, found), None)
    if index is None:
        index = index_tar(store, name)
        indexes.replace(_object_name(identity), _to_bytes(index, identity, f"{store.uri}/{name}"))
    return index


def _has_all_captions(earlier: TarIndex) -> bool:
    return all(image.captions and "." not in sample_key(image.member)[1] for image in earlier.images)


def _object_name(identity: str) -> str:
    return f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.index"


def _to_bytes(index: TarIndex, identity: str, uri: str) -> bytes:
    columns = list(zip(*index.images, strict=True)) or [(), (), (), ()]
    try:
        arrays = [pa.array(column, type_) for column, type_ in zip(columns, _SCHEMA.types, strict=True)]
    except UnicodeEncodeError as error:
        raise UserError(f"{uri}: the name of a member is not UTF-8; write the tar again") from error
    faults = json.dumps({"is_truncated": index.is_truncated, "orphans": index.orphans})
    metadata, sink = {"identity": identity, "faults": faults}, pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, _SCHEMA.with_metadata(metadata)), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    return hashlib.sha256(data).digest() + data


def stored_tar_index(indexes: Store, identity: str) -> TarIndex | None:
    """Returns the index with an identity (format, URI, version token); None if it does not exist or is corrupt."""
    try:
        content = indexes.read(_object_name(identity))
    except FileNotFoundError:
        return None
    digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        return None
    table = read_parquet(pa.BufferReader(data))
    metadata = table.schema.metadata
    if metadata[b"identity"] != identity.encode():
        return None
    faults = json.loads(metadata.get(b"faults", '{"is_truncated": false, "orphans": []}'))
    member, start, end, captions = (column.to_pylist() for column in table.columns)
    images = list(map(TarImage, member, start, end, map(tuple, captions)))
    return TarIndex(images, faults["is_truncated"], tuple(faults["orphans"]))
