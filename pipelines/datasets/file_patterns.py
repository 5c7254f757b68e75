"""The files that a location of tars or Parquet files names: one, those of a pattern, or those of a folder or prefix.

A pattern has brace ranges (`{00000..00041}.tar`), whose files must all exist, or `*` for any characters but `/`.
"""

import re
from pathlib import Path, PurePosixPath

from braceexpand import braceexpand

from infra.errors import LocationError, UserError
from infra.log import log
from infra.paths import exists
from pipelines.datasets.data_files import data_files
from pipelines.datasets.listing import Listing
from pipelines.datasets.photo_sources import parent_and_name, store_of

ENDINGS = (".tar", ".parquet")
"""Endings of the files that a pattern may name, in any case."""


def is_pattern(location: str) -> bool:
    """Returns whether a location is a pattern rather than the path of a file, or the URI of an object, that exists."""
    is_named = location.lower().endswith(ENDINGS) and re.search("[{*]", location) is not None
    return is_named and not (_is_object(location) if "://" in location else exists(Path(location)))


def _is_object(uri: str) -> bool:
    """Returns whether an object of this name exists, as far as one may look: reading objects needs no such right."""
    folder, name = parent_and_name(uri)
    try:
        return store_of(folder).info(name) is not None
    except LocationError:
        return False


def base_folder(location: str) -> str:
    """Returns the folder or prefix URI above the first brace or `*` of a pattern."""
    return re.split("[{*]", location, maxsplit=1)[0].rpartition("/")[0] or "/"


def pattern_name(location: str) -> str:
    """Returns the name of a pattern's files up to their numbers, or that of the folder above the pattern."""
    stem = re.sub(r"(^|[-_.])\d*$", "", re.split("[{*]", PurePosixPath(location).stem, maxsplit=1)[0])
    return stem or PurePosixPath(base_folder(location)).name


def find_files(location: str, listing: Listing | None, ending: str) -> tuple[str, list[str]]:
    """Returns a folder or prefix URI, and the names of files below it, in order.

    `listing` is that of the location if it is a folder or prefix. The files of a folder or of `*` exist. Raises
    UserError if no file is found, and for braces that are not balanced.
    """
    if is_pattern(location):
        folder = base_folder(location)
        names = _expanded(location, folder)
    elif listing is not None:
        folder = location
        names = [name for name, _ in listing if name.lower().endswith(ending)]
        if not names:
            raise UserError(f"{location}: no {ending} file in this folder; give such files or a folder of them")
    else:
        folder, _, name = location.rpartition("/")
        names = [name]
    return folder or "/", names


def print_left_out(listing: Listing, ending: str) -> None:
    """Prints how many files of a folder are not read, without those beside one that is read, as of img2dataset."""
    known = {_without_ending(name) for name, _ in listing if name.lower().endswith(ending)}
    others = [name for name, _ in listing if _without_ending(name) not in known]
    if others:
        log.info(f"{len(others)} files in {listing.location} are left out (first {others[0]}): {ending} files are read")


def _without_ending(name: str) -> str:
    """Returns a name without its ending; `0_stats.json` of img2dataset is `0`."""
    return name.rpartition(".")[0].removesuffix("_stats")


def _expanded(location: str, folder: str) -> list[str]:
    """Returns the files of a pattern: those of each brace in its order, those of a `*` sorted."""
    try:
        patterns = list(braceexpand(location.removeprefix(folder).removeprefix("/"), escape=False))
    except ValueError as error:
        raise UserError(f"data set {location}: its braces are not balanced; write {{00000..00041}}") from error
    prefix = re.split("[{*]", location, maxsplit=1)[0].removeprefix(folder).removeprefix("/")
    listed = sorted(name for name, _ in data_files(folder, prefix)) if "*" in location else []
    found = dict.fromkeys(name for pattern in patterns for name in _matching(pattern, listed))
    if not found:
        raise UserError(f"{location}: no such file; correct the data set")
    return list(found)


def _matching(pattern: str, listed: list[str]) -> list[str]:
    if "*" not in pattern:
        return [pattern]
    expression = re.compile(re.escape(pattern).replace(r"\*", "[^/]*"))
    return [name for name in listed if expression.fullmatch(name)]
