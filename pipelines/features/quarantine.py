"""The quarantine report: one Parquet row per rejected photo; and the limit above which an extraction fails."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.features.account import Account
from pipelines.features.layout import QUARANTINE_OVER_CAP

COLUMNS = ("split", "key", "source", "reason", "shard")
_SCHEMA = pa.schema([(name, pa.string()) for name in COLUMNS])
_ROWS = 100_000
"""Rejected photos of a row group, about."""


def quarantine_table(accounts: Iterable[Account]) -> pa.Table:
    """Returns the rows of the quarantine report, in the order of the accounts; none if no photo was rejected."""
    return pa.Table.from_batches(map(_rows, accounts), _SCHEMA)


def quarantine_report(accounts: Iterable[Account]) -> bytes:
    """Returns the quarantine report as Parquet."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, _SCHEMA) as writer:
        for table in _tables(accounts):
            writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()


def _tables(accounts: Iterable[Account]) -> Iterator[pa.Table]:
    """Yields the rows of the report; at least one table, and _ROWS rows or a few more at a time."""
    batches, rows = list[pa.RecordBatch](), 0
    for account in accounts:
        batches.append(_rows(account))
        rows += len(account.rejected)
        if rows >= _ROWS:
            yield pa.Table.from_batches(batches, _SCHEMA)
            batches, rows = [], 0
    yield pa.Table.from_batches(batches, _SCHEMA)


def _rows(account: Account) -> pa.RecordBatch:
    """Returns the rows of one shard."""
    key, source, reason, _ = account.rejected.columns
    split, shard = (pa.repeat(text, len(account.rejected)) for text in (account.shard.split, account.shard.name))
    return pa.record_batch([split, key, source, reason, shard], schema=_SCHEMA)


def check_max_rejected(store: Store, accounts: Sequence[Account], planned: int, cap: float) -> None:
    """Raises UserError if all photos, or more than the fraction `cap` of `planned`, are rejected.

    Before that it writes `quarantine-over-cap.parquet`; `quarantine.parquet` belongs to the current index and stays.
    """
    rejected = sum(len(account.rejected) for account in accounts)
    if not exceeds_cap(rejected, planned, cap):
        return
    store.replace(QUARANTINE_OVER_CAP, quarantine_report(accounts))
    found = Counter[str]()
    for account in accounts:
        found.update(account.rejected["reason"].to_pylist())
    reasons = ", ".join(f"{count} x '{why}'" for why, count in found.most_common(3))
    first = next(account.rejected["source"][0] for account in accounts if len(account.rejected))
    is_all = rejected == planned
    limit = "all of them" if is_all else f"more than extract.max_rejected ({cap:g} of them)"
    fix = "" if is_all else ", or raise extract.max_rejected,"
    if any(map(_has_failed_downloads, accounts)):
        fix += " (web photos are tried again with --extract.retry_downloads true)"
    raise UserError(
        f"{rejected} of {planned} photos are rejected, {limit}: {reasons}; first {first}. "
        f"Fix the photos listed in {store.uri}/{QUARANTINE_OVER_CAP}{fix} and run again"
    )


def _has_failed_downloads(account: Account) -> bool:
    sources, is_read = account.rejected["source"].to_pylist(), account.rejected["is_read"].to_pylist()
    return any(
        source.startswith(("http://", "https://")) and not read for source, read in zip(sources, is_read, strict=True)
    )


def exceeds_cap(rejected: int, planned: int, cap: float) -> bool:
    """Returns whether so many rejected photos are too many."""
    return rejected > 0 and (rejected > cap * planned or rejected == planned)
