"""Formats of data sets: detects the format of a file by its content, and reads it."""

import json
import re
from collections.abc import Callable, Iterable, Mapping

from infra.errors import UserError
from infra.paths import explained
from pipelines.datasets.coco import coco_rows, is_coco
from pipelines.datasets.columns import IMAGE_COLUMNS
from pipelines.datasets.file_patterns import is_pattern
from pipelines.datasets.flickr import TOKEN_LINE, flickr_rows
from pipelines.datasets.folder import folder_rows
from pipelines.datasets.json_document import read_image_list
from pipelines.datasets.karpathy import karpathy_rows
from pipelines.datasets.listing import Listing
from pipelines.datasets.names import IMAGE_ENDINGS
from pipelines.datasets.parquet_table import parquet_name, parquet_rows
from pipelines.datasets.row_table import Row
from pipelines.datasets.rows import DatasetFile
from pipelines.datasets.table import csv_rows, jsonl_rows, tsv_rows
from pipelines.datasets.webdataset_tars import webdataset_name, webdataset_rows

TABLES: dict[str, Callable[[DatasetFile], Iterable[Row]]] = {
    "csv": csv_rows,
    "tsv": tsv_rows,
    "jsonl": jsonl_rows,
    "parquet": parquet_rows,
}
FORMATS = ("karpathy", "coco", "flickr", "list", *TABLES, "webdataset", "folder")
"""Values of `--format`. `list` is a list of the photos of a split, which another file describes."""
_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!")
UNPACK = "unpack it and give the file in it, or pack photos with their captions as an uncompressed .tar"
HEAD = 2**16
"""Bytes from which the format is detected."""
_PARQUET = b"PAR1"
_FILES = {"folder": "images", "webdataset": "tars", "parquet": "Parquet files"}
"""Files of a folder that its format reads."""


def detect_format(file: DatasetFile) -> str:
    """Returns the format of a file: one of FORMATS, or `json` for Karpathy or COCO. Content decides before the ending.

    Raises UserError for an archive, and if neither decides, and StorageError for a file that its disk cannot read.
    """
    if is_pattern(file.location):
        return "webdataset" if file.location.lower().endswith(".tar") else "parquet"
    if file.listing is not None:
        return _folder_format(file.listing)
    with explained(file.path), file.path.open("rb") as opened:
        head = opened.read(HEAD)
    is_tar = file.path.suffix.lower() == ".tar"
    if head[257:262] == b"ustar" and not is_tar:
        raise UserError(f"data set {file.path} is a tar, but its name does not end in .tar; rename it")
    if head.startswith(_COMPRESSED):
        raise UserError(f"data set {file.path} is an archive or compressed; {UNPACK}")
    if is_tar:
        return "webdataset"
    if head.startswith(_PARQUET):
        return "parquet"
    text = head.decode("utf-8-sig", "replace").lstrip()
    line, _, rest = text.partition("\n")
    ending = file.path.suffix.lower().removeprefix(".")
    if text.startswith("{"):
        return "jsonl" if ending == "jsonl" or _is_row(line, rest) else "json"
    if TOKEN_LINE.fullmatch(line):
        return "flickr"
    names = {name.strip(' "\r') for name in re.split("[\t,]", line)}
    if names & ({file.columns["image"]} if "image" in file.columns else set(IMAGE_COLUMNS)):
        return "tsv" if "\t" in line else "csv"
    if ending == "json" or ending in TABLES:
        return ending
    if line and "\t" not in line and "," not in line and "\0" not in line:
        return "list"
    raise UserError(
        f"{file.path}: its format is not recognised; give --format, one of {', '.join(FORMATS)}, or for a table the "
        "column of the images (--columns image=NAME)"
    )


def _folder_format(listing: Listing) -> str:
    """Returns the format of a folder or prefix by the endings of its files.

    A Parquet file beside a tar or a folder of images of the same name, as img2dataset writes it, is not counted. Raises
    UserError for files of several formats.
    """
    found: dict[str, list[str]] = {"folder": [], "webdataset": [], "parquet": []}
    images = 0
    for name, _ in listing:
        if name.lower().endswith(IMAGE_ENDINGS):
            images += 1
            found["folder"] = found["folder"] or [name]  # of millions, one name is kept
        elif name.lower().endswith((".tar", ".parquet")):
            found["webdataset" if name.lower().endswith(".tar") else "parquet"].append(name)
    found["parquet"] = _without_companions(listing, found)
    formats = [name for name, files in found.items() if files]
    if len(formats) > 1:
        counts = {name: len(files) for name, files in found.items()} | {"folder": images}
        parts = (f"{_FILES[each]}: {counts[each]} (first {found[each][0]})" for each in formats)
        raise UserError(
            f"{listing.location} has files of several formats ({', '.join(parts)}); state which of them to read: "
            f"--format {' or '.join(formats)}"
        )
    return formats[0] if formats else "folder"


def _without_companions(listing: Listing, found: Mapping[str, list[str]]) -> list[str]:
    """Returns the Parquet files without those that have the name of a tar, or of a folder that holds images."""
    tables, owners = found["parquet"], {_stem(name) for name in found["webdataset"]}
    if tables and found["folder"]:
        stems = set(map(_stem, tables))
        folders = (name.rpartition("/")[0] for name, _ in listing if name.lower().endswith(IMAGE_ENDINGS))
        owners |= {folder for folder in folders if folder in stems}
    return [name for name in tables if _stem(name) not in owners]


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def is_read_in_place(name: str, head: bytes) -> bool:
    """Returns whether the reader of an object reads it in its bucket, so that only its head is downloaded."""
    return name.lower().endswith(".tar") or head.startswith(_PARQUET)


def _is_row(line: str, rest: str) -> bool:
    """Returns whether a line is a JSON object by itself, followed by others or without the list of a JSON document."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and (rest.lstrip().startswith("{") or "images" not in found)


def read_file(file: DatasetFile, format_: str) -> tuple[str, Iterable[Row]]:
    """Returns the name that a file gives a data set, as text, and its rows. Raises UserError as the readers do."""
    if format_ == "parquet":
        return parquet_name(file.location, file.listing is not None), parquet_rows(file)
    if format_ in TABLES:
        return file.path.stem, TABLES[format_](file)
    if format_ == "folder":
        return file.path.name, folder_rows(file)
    if format_ == "webdataset":
        return webdataset_name(file.location), webdataset_rows(file)
    if format_ == "flickr":
        return file.path.stem.removesuffix(".token"), flickr_rows(file.path)
    document = read_image_list(file.path)
    if format_ == "coco" or (format_ == "json" and is_coco(document)):
        return file.path.stem, coco_rows(file, document)
    return str(document.get("dataset") or file.path.stem), karpathy_rows(file.path, document)
