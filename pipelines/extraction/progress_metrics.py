"""Metrics of an extraction that its driver records: planned, written and rejected photos (infra/metrics.py).

They follow from receipts, so that work that Ray repeats does not count twice: at the end of an extraction, planned =
written + rejected.
"""

import re

from infra.metrics import (
    ACCOUNTED_PHOTOS,
    MAX_REJECTED_RATIO,
    PLAN_PHOTOS,
    PLANNED_PHOTOS,
    REJECTED_PHOTOS,
    REJECTED_RATIO,
    WRITTEN_BYTES,
    WRITTEN_PHOTOS,
)
from pipelines.features.receipt import Receipt

_KINDS = {
    "process_died": r"its process died in ",
    "detector": r"the detector |features beyond float16",
    "too_large": r"larger than |more than .* megapixels|too many (?:pixels|scans)|decoding it needs too much memory",
    "unsupported": r"an uncompressed TIFF|only the low bits|pixels are floating-point|grey values of more than 8 bits",
    "corrupt": r"not an image|image data is truncated|the file is empty",
    "missing": r"cannot be read: No such file|not in its |its (tar|Parquet) file does not exist",
    "unreadable": r"cannot be read: |its tar file |not a location in a tar file|a link or a sparse file",
    "download": r"not downloaded|HTTP status|the web server|no response from|redirected|not a valid URL|its URL,",
}
"""Start of the reasons of each kind, which are texts of PhotoError and of the detector's operator."""
KINDS = (*_KINDS, "other")
"""Every value of the label `kind`."""


def rejection_kind(reason: str) -> str:
    """Returns the kind of a rejection's reason."""
    return next((kind for kind, pattern in _KINDS.items() if re.match(pattern, reason)), "other")


class ProgressMetrics:
    """Records the progress of one extraction: a context around its work, whose gauges disappear when it ends."""

    def __init__(self, feature_set: str, planned: int, max_rejected: float, accounted: int, rejected: int) -> None:
        """`accounted` photos, of which `rejected`, are in what was complete before."""
        self._feature_set, self._planned = feature_set, planned
        self._max_rejected, self._accounted, self._rejected = max_rejected, accounted, rejected

    def __enter__(self) -> "ProgressMetrics":
        PLANNED_PHOTOS.add(self._planned - self._accounted)
        PLAN_PHOTOS.set(self._planned, feature_set=self._feature_set)
        MAX_REJECTED_RATIO.set(self._max_rejected, feature_set=self._feature_set)
        self._set()
        return self

    def __exit__(self, *_: object) -> None:
        for metric in (PLAN_PHOTOS, MAX_REJECTED_RATIO, ACCOUNTED_PHOTOS, REJECTED_RATIO):
            metric.remove(feature_set=self._feature_set)

    def add(self, receipt: Receipt) -> None:
        """Adds photos that were not accounted for before."""
        WRITTEN_PHOTOS.add(len(receipt.written))
        WRITTEN_BYTES.add(receipt.size)
        for rejection in receipt.rejected:
            REJECTED_PHOTOS.add(1, kind=rejection_kind(rejection.reason))
        self._accounted += len(receipt.planned)
        self._rejected += len(receipt.rejected)
        self._set()

    def _set(self) -> None:
        ACCOUNTED_PHOTOS.set(self._accounted, feature_set=self._feature_set)
        REJECTED_RATIO.set(self._rejected / max(self._planned, 1), feature_set=self._feature_set)
