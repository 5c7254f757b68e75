"""Fingerprints of source files of tens of gigabytes, which are sampled instead of read in full."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from infra.paths import explained
from pipelines.detectors.contract import fingerprint_of

_BLOCKS, _BLOCK_BYTES = 64, 64 * 2**10


def source_fingerprint(detector: str, files: Iterable[Path]) -> str:
    """Returns `<detector>-<16 hex>` over the names and sampled digests of files, independent of their folder."""
    return fingerprint_of(detector, {path.name: sampled_digest(path) for path in files}, {})


def sampled_digest(path: Path) -> str:
    """Returns the sha256 of a file's size and of 64 blocks of 64 KiB, evenly spread from the first to the last byte.

    A file of up to 4 MiB is read in full. In a larger one an edit between the blocks is not noticed: the digest
    distinguishes exports, detectors and truncated copies, but does not prove that every byte is the same.

    Raises StorageError for a file that its disk cannot read.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with explained(path), path.open("rb") as file:
        if size <= _BLOCKS * _BLOCK_BYTES:
            digest.update(file.read())
        else:
            for number in range(_BLOCKS):
                file.seek((size - _BLOCK_BYTES) * number // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()
