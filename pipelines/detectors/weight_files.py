"""Weight files of the `embedded` detector: their pinned hashes, and the function that reads and verifies them.

Light to import: a driver computes the detector's fingerprint from the pinned hashes without loading a model.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from infra.errors import UserError
from infra.paths import explained, is_file

SSDLITE_FILE = "ssdlite_mobilenetv2_coco.safetensors"
SSDLITE_SHA256 = "c15578f84c919ee6138523310ef02de260e9e9514eb66f0cac5f457fe5f3f3ed"
LITE2_FILE = "efficientnet-lite2-9656183e.pth"
LITE2_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"


def read_verified(path: Path, sha256: str) -> bytes:
    """Reads a file and returns its bytes.

    Raises UserError if it is missing or its sha256 differs from `sha256`, StorageError if its disk cannot read it.
    """
    if not is_file(path):
        raise UserError(f"weight file {path} does not exist; reinstall the project with its package data")
    with explained(path):
        data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise UserError(f"weight file {path} has sha256 {found}, expected {sha256}; restore the original file")
    return data
