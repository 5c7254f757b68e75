"""Weight files are read once, as bytes, and only when their sha256 is the pinned one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from infra.errors import UserError


def read_verified(path: Path, sha256: str) -> bytes:
    """Read a file whose sha256 must be `sha256`; raises UserError if it is missing or another one."""
    if not path.is_file():
        raise UserError(f"{path} is missing: install the project with its package data again")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise UserError(f"{path} has sha256 {found}, not the pinned {sha256}: restore the file")
    return data
