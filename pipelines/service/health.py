"""Whether searches succeed: what the latest ones showed, and which shares have a running process."""

import asyncio
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Literal

RECENT_S = 60.0
"""Seconds for which the results of searches count."""
FAILURES = 3
"""Searches that fail one after the other before the service is unavailable: a single one may be a large query."""


UNAVAILABLE: Literal["unavailable"] = "unavailable"
"""Status of a service whose searches have no results."""


class Health:
    """The health of a gallery."""

    def __init__(self) -> None:
        self.lost: Collection[int] = ()
        """Shares without a running process."""
        self.shares = 1
        """Number of shares."""
        self._partial_at = self._failed_at = -RECENT_S
        self._failures = 0

    @property
    def status(self) -> Literal["ok", "partial", "unavailable"]:
        """`unavailable` if no share has a process or the latest searches failed, `partial` if results lack a share."""
        recently = time.monotonic() - RECENT_S
        if len(self.lost) >= self.shares or (self._failures >= FAILURES and self._failed_at > recently):
            return UNAVAILABLE
        return "partial" if self.lost or self._partial_at > recently else "ok"

    def succeeded(self, is_partial: bool) -> None:
        """Takes note of a search that had a result."""
        self._failures = 0
        if is_partial:
            self._partial_at = time.monotonic()

    @contextmanager
    def counting(self, end: float) -> Iterator[None]:
        """Counts a search by its failure in the body; one that is cancelled only at `end`, in the event loop's time."""
        try:
            yield
        except (asyncio.CancelledError, Exception) as error:
            if not isinstance(error, asyncio.CancelledError) or asyncio.get_running_loop().time() >= end:
                self._failures, self._failed_at = self._failures + 1, time.monotonic()
            raise
