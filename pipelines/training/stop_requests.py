"""How the first worker of a training learns that the driver was interrupted, and which step is then the last one.

The driver sets a flag in the actor of the progress bar (`driver.fit`). After the last step every worker saves a
checkpoint and returns; `take_step` passes the stop on to the other ranks.
"""

import time
from contextlib import suppress
from typing import Any

import ray

CHECK_S = 1.0
"""Seconds between checks of the flag, each of which is a message to the driver's node."""
DELAY_S = 5.0
"""Seconds for which a stop waits for a step that logs metrics; then the interrupt does not show in them."""


class StopRequests:
    """The driver's request to stop, as the first worker sees it."""

    def __init__(self, bar: Any, log_every_n_steps: int) -> None:
        """`bar` is the actor of `infra.progress.worker_bar`."""
        self._bar, self._log_every_n_steps = bar, log_every_n_steps
        self._checked = time.monotonic()
        self._requested: float | None = None

    def must_stop(self, step: int) -> bool:
        """Returns whether a step, counted from 1, is the last one."""
        now = time.monotonic()
        if self._requested is None and now > self._checked + CHECK_S:
            self._checked = now
            with suppress(ray.exceptions.RayError):  # training does not depend on the driver's progress bar
                if ray.get(self._bar.stop_requested.remote(), timeout=5):
                    self._requested = now
        if self._requested is None:
            return False
        return step % self._log_every_n_steps == 0 or now > self._requested + DELAY_S
