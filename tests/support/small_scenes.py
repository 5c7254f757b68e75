"""The config of a few rendered scenes (fixture `small`), and digests of their files."""

import hashlib
from pathlib import Path

from pipelines.datasets.scenes.config import ScenesConfig

SMALL = ScenesConfig(train=12, val=6, test=8, seed=3)


def digests(folder: Path, pattern: str = "*") -> dict[str, str]:
    """Returns the sha256 of every file, by its path below the folder."""
    files = [path for path in folder.rglob(pattern) if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
