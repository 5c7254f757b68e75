"""Locks among the processes of a machine, which the kernel releases if their process dies, with a deadline."""

import fcntl
import time
from pathlib import Path

from infra.errors import UserError
from infra.notice import notice

NOTICE_S = 10.0
"""Seconds after which a line names the lock that is waited for."""
DEADLINE_S = 1800.0
"""Seconds to wait for a lock: longer than the download of a shard, but its process may be stopped."""
_POLL_S = 0.01


def wait_for_lock(descriptor: int, path: Path) -> None:
    """Locks an open file or folder until it is closed. Raises UserError after DEADLINE_S."""
    deadline = time.monotonic() + DEADLINE_S
    with notice(f"waiting for the lock of {path}, which another process has held for {NOTICE_S:.0f} s", NOTICE_S):
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"{path}: another process has held its lock for {DEADLINE_S:.0f} s; find it with `fuser "
                        f"{path}`, end it and re-run the command"
                    ) from None
                time.sleep(_POLL_S)
            else:
                return
