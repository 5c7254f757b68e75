"""A lock that another process holds is named, and is not waited for without end."""

import fcntl
import os
from pathlib import Path

import pytest

from infra import file_lock
from infra.errors import UserError
from infra.file_lock import wait_for_lock


def test_a_held_lock_is_named_and_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(file_lock, "NOTICE_S", 0.0)
    monkeypatch.setattr(file_lock, "DEADLINE_S", 0.2)
    holder, waiter = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(UserError, match=rf"^{tmp_path}: another process has held its lock for 0 s; .*, end it"):
        wait_for_lock(waiter, tmp_path)
    assert capsys.readouterr().err == (f"waiting for the lock of {tmp_path}, which another process has held for 0 s\n")
    os.close(holder)
    wait_for_lock(waiter, tmp_path)
    os.close(waiter)
