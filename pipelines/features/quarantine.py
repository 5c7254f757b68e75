"""Photos that could not be used: the report of them, and the cap above which a job fails."""

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.features.feature_set import put
from pipelines.features.shards import Receipt

QUARANTINE = "quarantine.parquet"
QUARANTINE_OVER_CAP = "quarantine-over-cap.parquet"
"""Written instead by a job that fails: the report beside an index is of that index."""
_SCHEMA = pa.schema([(name, pa.string()) for name in ("split", "key", "source", "reason", "shard")])


def quarantine_rows(receipts: Iterable[Receipt]) -> list[dict[str, str]]:
    """The rows of `quarantine.parquet`: one for every rejected photo."""
    return [
        {"split": receipt.split, "key": row.key, "source": row.source, "reason": row.reason, "shard": receipt.shard}
        for receipt in receipts
        for row in receipt.rejected
    ]


def write_quarantine_report(store: Store, receipts: Iterable[Receipt]) -> None:
    """`quarantine.parquet`: a row for every rejected photo, none if there was none."""
    _write(store, QUARANTINE, receipts)


def _write(store: Store, name: str, receipts: Iterable[Receipt]) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(quarantine_rows(receipts), schema=_SCHEMA), sink)
    put(store, name, sink.getvalue().to_pybytes())


def check_max_rejected(store: Store, receipts: Iterable[Receipt], planned: int, cap: float) -> None:
    """UserError, after writing the report, if more than `cap` (a fraction) of the planned photos are rejected."""
    receipts = list(receipts)
    rejected = [row for receipt in receipts for row in receipt.rejected]
    if len(rejected) <= cap * planned:
        return
    _write(store, QUARANTINE_OVER_CAP, receipts)
    reasons = ", ".join(f"{count} x '{why}'" for why, count in Counter(row.reason for row in rejected).most_common(3))
    raise UserError(
        f"{len(rejected)} of {planned} photos are rejected, more than extract.max_rejected ({cap:g} of them): "
        f"{reasons}; first {rejected[0].source}. See {store.uri}/{QUARANTINE_OVER_CAP}; fix the photos, "
        "or raise extract.max_rejected, and run again"
    )
