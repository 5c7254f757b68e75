"""Stored indexes of tars: a tar whose version token is unchanged is not read again to list its images.

An index is an object below `INDEXES`, named by a hash of the tar's URI and version token: the sha256 of a Parquet file,
and the file. It may be deleted.
"""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import UserError
from infra.storage.base import Store
from infra.storage.open import open_store
from pipelines.datasets.tar_index import TarImage, TarIndex, index_tar

INDEXES = "tar-indexes"
"""Folder below the root of feature sets."""
_FORMAT = "shan-tar-index/1"
_DIGEST_BYTES = hashlib.sha256().digest_size
_SCHEMA = pa.schema(
    [("member", pa.string()), ("start", pa.int64()), ("end", pa.int64()), ("captions", pa.list_(pa.string()))]
)


def read_tar_index(store: Store, name: str, folder: str) -> TarIndex:
    """Returns the index of a tar: the one stored below `folder` if it fits, else a new one.

    A new one is stored there, unless `folder` is empty or something is wrong with the tar. Raises as `index_tar`.
    """
    info = store.info(name)
    if info is None:
        raise FileNotFoundError(name)
    if not folder:
        return index_tar(store, name)
    indexes = open_store(f"{folder.rstrip('/')}/{INDEXES}")
    identity = json.dumps([_FORMAT, f"{store.uri}/{name}", info.version_token])
    stored = f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.index"
    index = _stored(indexes, stored, identity)
    if index is None:
        index = index_tar(store, name)
        if not index.is_truncated and not index.orphans:
            indexes.replace(stored, _to_bytes(index, identity, f"{store.uri}/{name}"))
    return index


def _to_bytes(index: TarIndex, identity: str, uri: str) -> bytes:
    columns = list(zip(*index.images, strict=True)) or [(), (), (), ()]
    try:
        arrays = [pa.array(column, type_) for column, type_ in zip(columns, _SCHEMA.types, strict=True)]
    except UnicodeEncodeError as error:
        raise UserError(f"{uri}: the name of a member is not UTF-8; write the tar again") from error
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, _SCHEMA.with_metadata({"identity": identity})), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    return hashlib.sha256(data).digest() + data


def _stored(indexes: Store, name: str, identity: str) -> TarIndex | None:
    """Returns the stored index with an identity; None if it does not exist or is corrupt."""
    try:
        content = indexes.read(name)
    except FileNotFoundError:
        return None
    digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        return None
    # One thread: Arrow's thread pool can abort the process at exit (apache/arrow#34314).
    table = pq.read_table(pa.BufferReader(data), use_threads=False)
    if table.schema.metadata != {b"identity": identity.encode()}:
        return None
    member, start, end, captions = (column.to_pylist() for column in table.columns)
    return TarIndex(list(map(TarImage, member, start, end, map(tuple, captions))))
