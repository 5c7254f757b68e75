"""Reads the text files of SCAN's layout: captions and image ids, one per line."""

from collections.abc import Sequence
from pathlib import Path

from infra.errors import UserError
from pipelines.datasets.manifest import safe_key

CAPTIONS = 5
"""Captions per image: public code divides by it."""


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a text file, stripped. Raises UserError if it is missing or not UTF-8."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; SCAN's layout needs it beside the features") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as UTF-8 text ({error}); save it as UTF-8") from error
    return [line.strip() for line in text.removesuffix("\n").split("\n")]


def read_ids(path: Path, images: int) -> list[str] | None:
    """Returns the id of every image from a file with one line per image or per caption; None if there is no file.

    Raises UserError if their number is wrong, or if an id is empty or occurs twice.
    """
    if not path.exists():
        return None
    ids = read_lines(path)
    if len(ids) == CAPTIONS * images and len(ids) != images:
        ids = every_fifth(path, ids)
    if len(ids) != images:
        raise UserError(
            f"{path}: {len(ids)} ids for {images} images; correct the file, or delete it to number the images"
        )
    first: dict[str, int] = {}
    for number, name in enumerate(ids, 1):
        if not safe_key(name) or name in first:
            problem = f"also the id of image {first[name]}" if name in first else "not a usable name"
            raise UserError(
                f"{path}: id {number} ('{name}') is {problem}; correct the file, or delete it to number the images"
            )
        first[name] = number
    return ids


def every_fifth(path: Path, lines: Sequence[str]) -> list[str]:
    """Returns one of each five equal lines. Raises UserError if five of them differ."""
    for start in range(0, len(lines), CAPTIONS):
        if len(set(lines[start : start + CAPTIONS])) > 1:
            raise UserError(
                f"{path}: lines {start + 1} to {start + CAPTIONS} name more than one image, although the file has "
                "one line per caption; correct the file, or delete it to number the images"
            )
    return list(lines[::CAPTIONS])
