"""Digests of the files of models: equal digests mean equal files.

A registered version records those of its bundle, code, detector and requirements as metadata and as tags. An index
records that of the bundle that encoded it.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from infra.paths import is_dir, is_file
from shan_model.bundle import FILES, HF_FILES

BUNDLE_SHA256, CODE_SHA256 = "bundle.sha256", "code.sha256"
DETECTOR_SHA256, REQUIREMENTS_SHA256 = "detector.sha256", "requirements.sha256"
"""Names of the four in the metadata and the tags of a version; versions of early 0.2 do not have the last two."""


def bundle_digest(bundle: Path) -> str:
    """Returns a sha256 over the names and bytes of those files of a model bundle that exist."""
    return _digest(bundle, (path for name in (*FILES, *HF_FILES) if is_file(path := bundle / name)))


def code_digest(script: Path, *packages: Path) -> str:
    """Returns a sha256 over the bytes of the script of a model, and the names and bytes of packages that it may import.

    Bytecode that Python caches does not count: loading a model in place writes it.
    """
    digest = sha256(script.read_bytes())
    for package in sorted(packages):
        paths = package.rglob("*") if is_dir(package) else [package]
        files = (path for path in paths if is_file(path) and "__pycache__" not in path.relative_to(package).parts)
        digest.update(_digest(package.parent, files).encode())
    return digest.hexdigest()


def detector_digest(folder: Path) -> str:
    """Returns a sha256 over the names and bytes of the files in the artifact of the detector."""
    return _digest(folder, (path for path in folder.rglob("*") if is_file(path)))


def requirements_digest(requirements: Sequence[str]) -> str:
    """Returns a sha256 over pip requirements, the lines of the requirements.txt of a model."""
    return sha256("\n".join(requirements).encode()).hexdigest()


def _digest(root: Path, files: Iterable[Path]) -> str:
    digest = sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
