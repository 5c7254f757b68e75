"""Verification: reads every object that an index refers to and checks it against everything that describes it.

An integrity error is one line: the object's name, then what is wrong with it. All of them are collected, not only the
first. At most THREADS shards are in memory at a time, and of every photo its row of the manifest and 40 bytes.
"""

import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.errors import CorruptDataError, UserError
from infra.parquet import read_parquet
from infra.source_tree import program
from infra.storage.base import Store
from pipelines.features.account import Account, key_hashes
from pipelines.features.index import FeatureSetIndex, InvalidIndexError, read_index
from pipelines.features.layout import INDEX, QUARANTINE, SIZES, manifest_name, resolve_uri, snapshot_name, tar_name
from pipelines.features.manifests import local_copy, parse_manifest
from pipelines.features.planned_photos import PlannedPhotos
from pipelines.features.quarantine import COLUMNS, quarantine_table
from pipelines.features.receipt import read_receipt
from pipelines.features.verify_sample import Schema
from pipelines.features.verify_shard import ShardReport, read_object, reported, verify_shard

THREADS = 4
UNFINISHED = "an unfinished extraction leaves this; run it to its end"


@dataclass(frozen=True)
class Verification:
    """What was read, and every integrity error."""

    uri: str
    """With the digest of the feature set."""
    errors: tuple[str, ...]
    """One line each; empty if the feature set is intact."""
    shards: int
    photos: int
    """Photos in the shards, without rejected ones."""
    rejected: int
    size: int
    """Bytes of the tars read."""
    seconds: float


def verify(uri: str, progress: Callable[[int, int], object]) -> Verification:
    """Reads and checks a feature set (`<uri>@<12 hex>`: the one of that snapshot).

    `progress` is called with the number of shards done and in total. Raises UserError if there is no valid index.
    """
    started = time.monotonic()
    store, name = resolve_uri(uri)
    try:
        index = read_index(store, name)
    except FileNotFoundError as error:
        raise UserError(f"{uri}: no {name} here; run `{program('extract')}` to its end, or check the URI") from error
    errors = list(_index_errors(store, name, index))
    photos = _read_manifest(store, index, errors)
    schema = Schema.of(index.detector)
    reports: list[ShardReport] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for report in pool.map(lambda shard: verify_shard(store, shard, schema, photos), index.shards):
            reports.append(report)
            errors += report.errors
            progress(len(reports), len(index.shards))
    accounts = [report.account for report in reports if report.account is not None]
    errors += _key_errors(store, accounts, photos, manifest_name(index.manifest))
    if _is_current(store, index):
        errors += _report_errors(store, index, accounts)
    return Verification(
        f"{store.uri}@{index.feature_set[:12]}",
        tuple(errors),
        len(reports),
        sum(account.shard.written for account in accounts),
        sum(account.shard.rejected for account in accounts),
        sum(report.size for report in reports),
        time.monotonic() - started,
    )


def _index_errors(store: Store, name: str, index: FeatureSetIndex) -> Iterator[str]:
    """The digest must match the content, and the snapshot of that digest must be the same index."""
    digest = index.feature_set
    if index.compute_digest() != digest:
        yield f"{name}: its content does not have the digest {digest[:12]} that it states"
    snapshot = snapshot_name(digest)
    if name not in (INDEX, snapshot):
        yield f"{name}: contains the index with digest {digest[:12]}"
    for shard, times in Counter(shard.name for shard in index.shards).items():
        if times > 1:
            yield f"{name}: lists the shard {shard} {times} times"
    try:
        if read_index(store, snapshot) != index:
            yield f"{snapshot}: differs from {name}"
    except FileNotFoundError:
        yield f"{snapshot}: does not exist"
    except InvalidIndexError as error:
        yield f"{snapshot}: is not a valid index ({error.reason})"


def _read_manifest(store: Store, index: FeatureSetIndex, errors: list[str]) -> PlannedPhotos | None:
    """Returns the manifest's photos; None, after adding the error, if it is missing or corrupt."""
    name = manifest_name(index.manifest)
    manifest = None
    with reported(name, errors), local_copy(store, name) as file:
        try:
            manifest = parse_manifest(file, name)
        except CorruptDataError as error:
            errors.append(str(error))
    if manifest is None:
        return None
    if manifest.digest() != index.manifest:
        errors.append(f"{name}: its content does not have the digest in the index")
    if manifest.name != index.dataset:
        errors.append(f"{name}: its data set is {manifest.name}, the index has {index.dataset}")
    return PlannedPhotos(manifest)


def _key_errors(
    store: Store, accounts: Sequence[Account], photos: PlannedPhotos | None, manifest: str
) -> Iterator[str]:
    """Every photo of the manifest must be written or rejected exactly once."""
    hashes = key_hashes(accounts)
    values, counts = np.unique(hashes, return_counts=True)
    if len(values) < len(hashes):
        yield from _repeated_keys(store, accounts, values[counts > 1])
    lost = photos.without(values) if photos is not None else []
    if lost:
        yield f"{manifest}: {len(lost)} of its photos are neither written nor rejected, first {lost[0].key}"


def _repeated_keys(store: Store, accounts: Sequence[Account], repeated: NDArray[np.int64]) -> Iterator[str]:
    """Reads the receipts that share keys once more, to name the keys."""
    seen: dict[str, str] = {}
    for account in accounts:
        receipt = read_receipt(store, account.shard.name) if np.isin(account.keys, repeated).any() else None
        for photo in receipt.planned if receipt else ():
            if photo.key in seen:
                yield f"{tar_name(account.shard.name)}: {photo.key} is also in {seen[photo.key]}"
            seen[photo.key] = account.shard.name


def _is_current(store: Store, index: FeatureSetIndex) -> bool:
    """Returns whether this is the current index, to which `sizes.json` and `quarantine.parquet` belong."""
    try:
        return read_index(store).feature_set == index.feature_set
    except (FileNotFoundError, InvalidIndexError):
        return False


def _report_errors(store: Store, index: FeatureSetIndex, accounts: Sequence[Account]) -> Iterator[str]:
    """Yields an error if sizes.json or quarantine.parquet disagrees with the index or receipts."""
    errors: list[str] = []
    sizes = read_object(store, SIZES, errors)
    if sizes is not None and _parse_json(sizes) != {tar_name(shard.name): shard.written for shard in index.shards}:
        errors.append(f"{SIZES}: differs from the index ({UNFINISHED})")
    report = read_object(store, QUARANTINE, errors)
    is_complete = len(accounts) == len(index.shards)
    if report is not None and is_complete and _parse_table(report) != quarantine_table(accounts):
        errors.append(f"{QUARANTINE}: differs from the receipts ({UNFINISHED})")
    yield from errors


def _parse_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _parse_table(data: bytes) -> pa.Table | None:
    """Returns the rows without the metadata of the file; None if it cannot be read."""
    try:
        table = read_parquet(io.BytesIO(data))
        table.validate(full=True)
    except (OSError, pa.ArrowInvalid):
        return None
    return table.replace_schema_metadata() if table.column_names == list(COLUMNS) else None
