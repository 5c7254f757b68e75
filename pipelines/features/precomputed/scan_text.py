"""Reads the text files of SCAN's format: captions and image ids, one per line."""

from collections.abc import Sequence
from pathlib import Path

from infra.errors import UserError
from infra.paths import exists
from pipelines.datasets.names import safe_key
from pipelines.datasets.rows import numbered
from pipelines.datasets.spellings import composed
from pipelines.datasets.text_lines import text_lines

CAPTIONS = 5
"""Captions per image in the published folders: public code divides by it."""


def read_scan_captions(path: Path, rows: int) -> list[tuple[str, ...]]:
    """Returns the captions of every row of the features from a file with the same number of lines for each.

    Raises UserError if it cannot be read, or if the number of its lines is not a multiple of the rows.
    """
    lines = read_lines(path)
    if not lines or len(lines) % rows:
        raise UserError(
            f"{path.parent}: {rows} images and {len(lines)} lines in {path.name}, which needs the same number for each "
            f"image; for other numbers write {path.stem}.tsv, with an image, a tab and a caption on each line"
        )
    count = len(lines) // rows
    return [tuple(lines[start : start + count]) for start in range(0, len(lines), count)]


def read_pairs(path: Path, images: int, ids: Sequence[str] | None) -> list[tuple[str, ...]]:
    """Returns the captions of every image, any number, from lines of an image, a tab and a caption.

    The image is its id, or without ids its number from 0. Raises UserError naming a line that is not valid.
    """
    number = {composed(name): row for row, name in enumerate(ids or map(str, range(images)))}
    captions: list[list[str]] = [[] for _ in range(images)]
    try:
        for where, line in numbered(text_lines(path)):
            name, tab, caption = line.partition("\t")
            row = number.get(composed(name.strip()))
            if not tab or row is None:
                known = "an id of the images" if ids else f"an image's number from 0 to {images - 1}"
                raise UserError(f"{path}: {where} ({line!r:.80}) is not {known}, a tab and a caption; correct it")
            captions[row].append(caption.strip())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as text ({error}); save it as UTF-8") from error
    return list(map(tuple, captions))


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a text file, stripped. Raises UserError if it is missing or not UTF-8."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file; SCAN's format needs it beside the features, or, for images without captions, an "
            f"empty {path.stem}.tsv"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as UTF-8 text ({error}); save it as UTF-8") from error
    return [line.strip() for line in text.removesuffix("\n").split("\n")] if text else []


def read_ids(path: Path, images: int) -> list[str] | None:
    """Returns the id of every image from a file with one line per image or per caption; None if there is no file.

    Raises UserError if their number is wrong, or if an id is empty or occurs twice.
    """
    if not exists(path):
        return None
    ids = read_lines(path)
    if ids and len(ids) % images == 0 and len(ids) != images:
        ids = one_of_each(path, ids, len(ids) // images)
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


def one_of_each(path: Path, lines: Sequence[str], count: int) -> list[str]:
    """Returns one of each `count` equal lines. Raises UserError if they differ."""
    for start in range(0, len(lines), count):
        if len(set(lines[start : start + count])) > 1:
            raise UserError(
                f"{path}: lines {start + 1} to {start + count} name more than one image, although the file has "
                "one line per caption; correct the file, or delete it to number the images"
            )
    return list(lines[::count])
