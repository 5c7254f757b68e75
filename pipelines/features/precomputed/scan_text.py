"""The text files of SCAN's layout: captions and image ids, one a line."""

from collections.abc import Sequence
from pathlib import Path

from infra.errors import UserError
from pipelines.datasets.manifest import safe_key

CAPTIONS = 5
"""Captions of an image: public code divides by it."""


def read_lines(path: Path) -> list[str]:
    """The lines of a text file without surrounding space. UserError if it is missing or not UTF-8."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; SCAN's layout has it beside the features") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as UTF-8 text ({error}); save it as UTF-8") from error
    return [line.strip() for line in text.removesuffix("\n").split("\n")]


def read_ids(path: Path, images: int) -> list[str] | None:
    """The id of every image, whether the file has a line an image or a line a caption; None without the file."""
    if not path.exists():
        return None
    ids = read_lines(path)
    if len(ids) == CAPTIONS * images and len(ids) != images:
        ids = every_fifth(path, ids)
    if len(ids) != images:
        raise UserError(f"{path}: {len(ids)} ids for {images} images; correct it, or take it away to number them")
    first: dict[str, int] = {}
    for number, name in enumerate(ids, 1):
        if not safe_key(name) or name in first:
            raise UserError(
                f"{path}: id {number} ('{name}') is {f'that of image {first[name]}' if name in first else 'no name'}; "
                "correct it, or take the file away to number the images"
            )
        first[name] = number
    return ids


def every_fifth(path: Path, lines: Sequence[str]) -> list[str]:
    """One of each five equal lines; UserError if five of them are not equal."""
    for start in range(0, len(lines), CAPTIONS):
        if len(set(lines[start : start + CAPTIONS])) > 1:
            raise UserError(
                f"{path}: lines {start + 1} to {start + CAPTIONS} name more than one image, and there is a line a "
                "caption; correct it, or take it away to number the images"
            )
    return list(lines[::CAPTIONS])
