"""Packs what a submitted job needs: the project's code and the config files of its command line, but no secrets."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from infra.errors import UserError
from infra.paths import exists, explained, is_dir, is_file, local_path
from infra.redaction import redact
from infra.source_tree import PACKAGES, SOURCE_ROOT
from infra.storage.disk import names_full_disk
from infra.storage.process_folder import temporary_folder

CODE_SUFFIXES = (".cpp", ".css", ".html", ".js", ".py", ".safetensors", ".svg", ".yaml")
"""Suffixes of the files that are packed. Others in the packages' folders may be an .env file or data."""


@contextmanager
def packed_code() -> Iterator[Path]:
    """Yields a temporary folder with a copy of the project's code alone: no data, no .git, no outputs of runs."""
    with temporary_folder("shan-submit-") as folder:
        with names_full_disk(folder, "free space, or set TMPDIR to a folder on a larger disk"):
            for package in PACKAGES:
                shutil.copytree(SOURCE_ROOT / package, folder / package, ignore=_not_code)
        yield folder


def _not_code(folder: str, names: list[str]) -> list[str]:
    paths = [Path(folder, name) for name in names]
    return [p.name for p in paths if p.name == "__pycache__" or (not is_dir(p) and p.suffix not in CODE_SUFFIXES)]


def absolute_config_files(arguments: list[str]) -> list[str]:
    """Returns the arguments with the absolute path of each file of `--config`, which is the same in every folder."""
    found, rest = [], iter(arguments)
    for argument in rest:
        option, _, value = argument.partition("=")
        is_file_option = option == "--config"
        found.append(f"--config={local_path(value or next(rest, ''), '--config')}" if is_file_option else argument)
    return found


def add_config_files(arguments: list[str], folder: Path) -> list[str]:
    """Copies each file of `--config` into `folder`, and returns the arguments with the names of the copies.

    Raises UserError for a file that does not exist or that contains credentials.
    """
    packed = []
    for number, argument in enumerate(absolute_config_files(arguments)):
        option, _, value = argument.partition("=")
        if option != "--config":
            packed.append(argument)
            continue
        path = Path(value)
        if not is_file(path):
            problem = "not a regular file" if exists(path) else "no such file"
            raise UserError(f"--config {path}: {problem}; give the path of a YAML file")
        with explained(path):
            text = path.read_text(encoding="utf-8", errors="replace")
        refuse_secrets(text, str(path))
        shutil.copyfile(path, folder / f"config-{number}.yaml")
        packed.append(f"--config=config-{number}.yaml")
    return packed


def refuse_secrets(text: str, source: str) -> None:
    """Raises UserError, naming `source`, if the text contains a URI with a user or password.

    Ray shows a job's command line and working directory to everyone who can reach the cluster.
    """
    if redact(text) != text:
        raise UserError(
            f"{source} contains a user or password in a URI, which everyone on the cluster could read; set it as an "
            "environment variable on the cluster's nodes (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)"
        )


def package_digest(folder: Path, job: str, arguments: list[str]) -> str:
    """Returns 12 hex digits that identify a command line together with all packed files."""
    digest = sha256("\0".join([job, *arguments]).encode())
    for path in sorted(path for path in folder.rglob("*") if is_file(path)):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]
