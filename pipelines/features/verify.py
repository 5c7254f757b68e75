"""Whether a feature set is whole: every object that its index names is read and held against all that speaks of it.

One shard a thread is in memory at a time. All faults are found, not only the first.
"""

import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.features.feature_set import INDEX, SIZES, index_digest, locate, manifest_name, read_index
from pipelines.features.quarantine import QUARANTINE, quarantine_rows
from pipelines.features.shards import Receipt, tar_name
from pipelines.features.verify_sample import Promise
from pipelines.features.verify_shard import ShardReport, check_shard, read_object

THREADS = 4
UNFINISHED = "an extraction that was not finished leaves this; run it to its end"


@dataclass(frozen=True)
class Verification:
    """What was read and what is wrong with it."""

    uri: str
    """With the digest of the feature set."""
    faults: tuple[str, ...]
    """A line each: the object, then its fault; none if the set is whole."""
    shards: int
    photos: int
    """In the shards; rejected ones are not among them."""
    rejected: int
    size: int
    """Bytes of the tars read."""
    seconds: float


def verify(uri: str, progress: Callable[[int, int], object]) -> Verification:
    """Reads all of a feature set (`<uri>@<12 hex>`: of that digest).

    `progress` is called with the shards done and all of them. UserError if there is no index of ours.
    """
    started = time.monotonic()
    store, name = locate(uri)
    index, promise = _open_index(uri, store, name)
    faults = list(_index_faults(store, name, index))
    planned = _read_manifest(store, index, faults)
    reports: list[ShardReport] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for report in pool.map(lambda row: check_shard(store, row, promise, planned), index["shards"]):
            reports.append(report)
            faults += report.faults
            progress(len(reports), len(index["shards"]))
    receipts = [report.receipt for report in reports if report.receipt is not None]
    faults += _key_faults(receipts, planned, manifest_name(index["manifest"]))
    if _is_newest(store, index):
        faults += _side_faults(store, index, receipts)
    return Verification(
        f"{store.uri}@{index['feature_set'][:12]}",
        tuple(faults),
        len(reports),
        sum(len(receipt.written) for receipt in receipts),
        sum(len(receipt.rejected) for receipt in receipts),
        sum(report.size for report in reports),
        time.monotonic() - started,
    )


def _open_index(uri: str, store: Store, name: str) -> tuple[dict[str, Any], Promise]:
    """The index, with every field that is used here, and what it promises of a photo."""
    try:
        index = read_index(store, name)
        for row in index["shards"]:
            _ = row["name"].encode(), row["sha256"].encode(), row["bytes"] + row["count"] + row["rejected"]
        _ = index["dataset"].encode(), index["manifest"].encode(), index["feature_set"].encode()
        return index, Promise.of(index["detector"])
    except FileNotFoundError as error:
        raise UserError(
            f"{uri}: no {name} here; run `python -m jobs.extract` to its end, or correct the URI"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{uri}: its {name} is not one of ours ({error!r}); point at a feature set") from error


def _index_faults(store: Store, name: str, index: dict[str, Any]) -> Iterator[str]:
    """The digest is that of the content, and the index is also there under its digest."""
    digest = index["feature_set"]
    if index_digest(index) != digest:
        yield f"{name}: its content is not that of its digest {digest[:12]}"
    kept = f"snapshot-{digest[:12]}.json"
    if name not in (INDEX, kept):
        yield f"{name}: holds the index of digest {digest[:12]}"
    for shard, times in Counter(row["name"] for row in index["shards"]).items():
        if times > 1:
            yield f"{name}: names the shard {shard} {times} times"
    try:
        if read_index(store, kept) != index:
            yield f"{kept}: is not the same as {name}"
    except FileNotFoundError:
        yield f"{kept}: is not there"
    except ValueError as error:
        yield f"{kept}: is no index of ours ({error})"


def _read_manifest(store: Store, index: dict[str, Any], faults: list[str]) -> dict[str, Photo] | None:
    """The manifest's photos by key; None, and the fault noted, if it cannot be read."""
    name = manifest_name(index["manifest"])
    data = read_object(store, name, faults)
    if data is None:
        return None
    try:
        manifest = Manifest.from_parquet(data, name)
    except UserError as error:
        faults.append(str(error))
        return None
    if manifest.digest() != index["manifest"]:
        faults.append(f"{name}: its content is not that of the digest which the index names")
    if manifest.name != index["dataset"]:
        faults.append(f"{name}: is of data set {manifest.name}, the index of {index['dataset']}")
    return {photo.key: photo for photo in manifest.photos()}


def _key_faults(receipts: Sequence[Receipt], planned: dict[str, Photo] | None, manifest: str) -> Iterator[str]:
    """No key twice, and every photo of the manifest written or rejected."""
    seen: dict[str, str] = {}
    for receipt in receipts:
        for photo in receipt.planned:
            if photo.key in seen:
                yield f"{tar_name(receipt.shard)}: {photo.key} is also in {seen[photo.key]}"
            seen[photo.key] = receipt.shard
    lost = [key for key in planned or () if key not in seen]
    if lost:
        yield f"{manifest}: {len(lost)} of its photos are neither written nor rejected, first {lost[0]}"


def _is_newest(store: Store, index: dict[str, Any]) -> bool:
    """Whether `sizes.json` and `quarantine.parquet` go with this index: past ones have none of their own."""
    try:
        return bool(read_index(store)["feature_set"] == index["feature_set"])
    except (FileNotFoundError, ValueError, KeyError):
        return False


def _side_faults(store: Store, index: dict[str, Any], receipts: Sequence[Receipt]) -> Iterator[str]:
    """The two files that repeat what index and receipts say, for other readers."""
    faults: list[str] = []
    sizes = read_object(store, SIZES, faults)
    if sizes is not None and _parsed(sizes) != {tar_name(row["name"]): row["count"] for row in index["shards"]}:
        faults.append(f"{SIZES}: is not what the index says ({UNFINISHED})")
    rejected = read_object(store, QUARANTINE, faults)
    if rejected is not None and len(receipts) == len(index["shards"]) and _rows(rejected) != quarantine_rows(receipts):
        faults.append(f"{QUARANTINE}: is not what the receipts say ({UNFINISHED})")
    yield from faults


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _rows(data: bytes) -> list[dict[str, Any]] | None:
    try:
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(data), use_threads=False).to_pylist()
    except (OSError, pa.ArrowInvalid):
        return None
    return rows
