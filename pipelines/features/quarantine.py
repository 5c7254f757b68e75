"""The quarantine report: one Parquet row per rejected photo; and the limit above which an extraction fails."""

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.features.layout import QUARANTINE_OVER_CAP
from pipelines.features.receipt import Receipt

_SCHEMA = pa.schema([(name, pa.string()) for name in ("split", "key", "source", "reason", "shard")])


def quarantine_rows(receipts: Iterable[Receipt]) -> list[dict[str, str]]:
    """Returns the rows of the quarantine report, in the order of the receipts."""
    return [
        {"split": receipt.split, "key": row.key, "source": row.source, "reason": row.reason, "shard": receipt.shard}
        for receipt in receipts
        for row in receipt.rejected
    ]


def quarantine_report(receipts: Iterable[Receipt]) -> bytes:
    """Returns the quarantine report as Parquet; it has no row if no photo was rejected."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(quarantine_rows(receipts), schema=_SCHEMA), sink)
    return sink.getvalue().to_pybytes()


def check_max_rejected(store: Store, receipts: Iterable[Receipt], planned: int, cap: float) -> None:
    """Raises UserError if all photos, or more than the fraction `cap` of `planned`, are rejected.

    Before that it writes `quarantine-over-cap.parquet`; `quarantine.parquet` belongs to the current index and stays.
    """
    receipts = list(receipts)
    rejected = [row for receipt in receipts for row in receipt.rejected]
    if not rejected or (len(rejected) <= cap * planned and len(rejected) < planned):
        return
    store.replace(QUARANTINE_OVER_CAP, quarantine_report(receipts))
    reasons = ", ".join(f"{count} x '{why}'" for why, count in Counter(row.reason for row in rejected).most_common(3))
    is_all = len(rejected) == planned
    limit = "all of them" if is_all else f"more than extract.max_rejected ({cap:g} of them)"
    fix = "" if is_all else ", or raise extract.max_rejected,"
    if any(row.source.startswith(("http://", "https://")) and not row.sha256 for row in rejected):
        fix += " (web photos are tried again with --extract.retry_downloads true)"
    raise UserError(
        f"{len(rejected)} of {planned} photos are rejected, {limit}: {reasons}; first {rejected[0].source}. "
        f"Fix the photos listed in {store.uri}/{QUARANTINE_OVER_CAP}{fix} and run again"
    )
