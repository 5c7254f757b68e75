"""`report.json`: how fast the phases of the last extraction were that detected photos."""

from collections.abc import Mapping
from typing import Any

from infra.canonical_json import load_object
from infra.storage.base import Store
from pipelines.features.layout import REPORT
from pipelines.reports.tables import Table


def read_speed(store: Store) -> Table | None:
    """Returns the table of the stored report; None if it does not exist or cannot be read."""
    try:
        return speed_table(load_object(store.read(REPORT)))
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None


def speed_table(report: Mapping[str, Any]) -> Table:
    """Returns a row for each phase. Raises LookupError, TypeError or ValueError for any other value."""
    rows = [
        (
            f"{phase['name']} (bottleneck)" if phase["name"] == report["bottleneck"] else str(phase["name"]),
            _rate(phase["photos_per_s"]),
            f"{phase['processes']:.2f}",
            f"{phase['queue']:.1f}",
        )
        for phase in report["stages"]
    ]
    header = (f"{report['photos']:,} photos in {report['seconds']:.0f} s", "photos/s", "processes", "queue")
    return Table("", header, rows)


def _rate(photos_per_s: float) -> str:
    return f"{photos_per_s:,.0f}" if photos_per_s >= 100 else f"{photos_per_s:.3g}"
