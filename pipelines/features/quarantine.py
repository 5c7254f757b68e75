"""The quarantine report: one Parquet row per rejected photo; and the limit above which an extraction fails."""

from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.features.account import Account
from pipelines.features.layout import QUARANTINE_OVER_CAP

COLUMNS = ("split", "key", "source", "reason", "shard")


def quarantine_table(accounts: Iterable[Account]) -> pa.Table:
    """Returns the rows of the quarantine report, in the order of the accounts; none if no photo was rejected."""
    rows = [photo for account in accounts for photo in account.rejected]
    return pa.table({name: pa.array([getattr(row, name) for row in rows], pa.string()) for name in COLUMNS})


def quarantine_report(accounts: Iterable[Account]) -> bytes:
    """Returns the quarantine report as Parquet."""
    sink = pa.BufferOutputStream()
    pq.write_table(quarantine_table(accounts), sink)
    return sink.getvalue().to_pybytes()


def check_max_rejected(store: Store, accounts: Sequence[Account], planned: int, cap: float) -> None:
    """Raises UserError if all photos, or more than the fraction `cap` of `planned`, are rejected.

    Before that it writes `quarantine-over-cap.parquet`; `quarantine.parquet` belongs to the current index and stays.
    """
    rejected = [photo for account in accounts for photo in account.rejected]
    if not exceeds_cap(len(rejected), planned, cap):
        return
    store.replace(QUARANTINE_OVER_CAP, quarantine_report(accounts))
    reasons = ", ".join(f"{count} x '{why}'" for why, count in Counter(row.reason for row in rejected).most_common(3))
    is_all = len(rejected) == planned
    limit = "all of them" if is_all else f"more than extract.max_rejected ({cap:g} of them)"
    fix = "" if is_all else ", or raise extract.max_rejected,"
    if any(row.source.startswith(("http://", "https://")) and not row.is_read for row in rejected):
        fix += " (web photos are tried again with --extract.retry_downloads true)"
    raise UserError(
        f"{len(rejected)} of {planned} photos are rejected, {limit}: {reasons}; first {rejected[0].source}. "
        f"Fix the photos listed in {store.uri}/{QUARANTINE_OVER_CAP}{fix} and run again"
    )


def exceeds_cap(rejected: int, planned: int, cap: float) -> bool:
    """Returns whether so many rejected photos are too many."""
    return rejected > 0 and (rejected > cap * planned or rejected == planned)
