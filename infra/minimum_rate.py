"""The minimum rate of a transfer: a server that sends a byte every few seconds must not hold its reader forever."""

import time

BYTES_PER_S = 1024.0
"""What a server has to send on average."""


class MinimumRate:
    """The clock of one transfer. It starts when it is created."""

    def __init__(self, grace_s: float, bytes_per_s: float = BYTES_PER_S) -> None:
        """`grace_s`: seconds in which nothing has to arrive."""
        self._grace_s, self._bytes_per_s, self._start = grace_s, bytes_per_s, time.monotonic()

    def is_missed(self, received: int) -> bool:
        """Returns whether `received` bytes are too few for the time so far."""
        return time.monotonic() - self._start > self._grace_s + received / self._bytes_per_s

    def __str__(self) -> str:
        return f"{self._bytes_per_s:g} bytes per second"
