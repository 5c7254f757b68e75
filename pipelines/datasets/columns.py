"""Columns of a table of photos, by role, and the row that their values give.

| role | column by default | content |
|---|---|---|
| `image` | `image` or `uri` | a path below the photo root or a URI; in Parquet also the image itself (`parquet`) |
| `caption` | `caption` | a caption, one row per caption, or a list of captions |
| `captions` | `captions` | instead of `caption`: the list of all captions of the photo |
| `split` | `split` | a split, empty where the file leaves it to others |
| `key` | `key` | the photo's key, empty where it follows from the file name |

Other columns are not read. Values are text, keys may be integers, and no type is guessed.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from infra.errors import UserError
from infra.log import log
from pipelines.datasets.row_table import Row

ROLES = ("image", "caption", "captions", "split", "key")
IMAGE_COLUMNS = ("image", "uri")
"""Columns that are the image's unless another one is named."""
_SHOWN = 10
"""Columns that a note names."""


def parse_columns(text: str) -> dict[str, str]:
    """Returns the column by role of `--columns image=url,caption=TEXT`. Raises UserError if that is not its form."""
    columns: dict[str, str] = {}
    for part in text.split(","):
        role, equals, name = part.partition("=")
        if role not in ROLES or not equals or not name or role in columns:
            raise UserError(
                f"--columns is '{text}'; write <role>=<column>, each role at most once, separated by commas: the roles "
                f"are {', '.join(ROLES)}"
            )
        columns[role] = name
    return columns


def resolve_columns(names: Sequence[str], given: Mapping[str, str], subject: str) -> dict[str, str]:
    """Returns the column of each role that a table has.

    Raises UserError if `image` has no column, if a given one does not exist, or if a column is ambiguous.
    """
    columns = {role: role for role in ("split", "key") if role in names}
    if not {"caption", "captions"} & given.keys():
        columns |= {role: role for role in ("caption", "captions") if role in names}
    images = [name for name in IMAGE_COLUMNS if name in names]
    if "image" not in given and len(images) == 1:
        columns["image"] = images[0]
    columns |= given
    absent = next((name for name in columns.values() if name not in names), None)
    if absent is not None:
        raise UserError(f"{subject} are {', '.join(names)}; `{absent}` of --columns is not one of them")
    if "image" not in columns:
        need = "`image` and `uri`; name the right one" if images else f"{', '.join(names)}; name the one of the images"
        raise UserError(f"{subject} are {need} (--columns image=NAME)")
    if {"caption", "captions"} <= columns.keys():
        raise UserError(f"{subject} have both `caption` and `captions`; name one of them (--columns caption=NAME)")
    twice = next((name for name in columns.values() if names.count(name) > 1), None)
    if twice:
        raise UserError(f"{subject} have `{twice}` twice; rename or remove one of them")
    return columns


def print_unread(location: Path | str, names: Iterable[str], columns: Mapping[str, str]) -> None:
    """Prints the other columns of a table of which no column is read as captions: they may be in one of them."""
    others = [name for name in dict.fromkeys(names) if name and name not in columns.values()]
    if others and not {"caption", "captions"} & columns.keys():
        shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
        log.info(
            f"{location}: no captions: the import reads {', '.join(columns.values())}, but not {shown}; "
            "if one of them has captions, name it (--columns caption=NAME)"
        )


def row_of(file: Path | str, number: int, values: Mapping[str, Any]) -> Row:
    """Returns the row of a table's values by role; raises UserError if a value is not text."""
    source: Any = values.get("image")
    key, split = values.get("key"), values.get("split")
    is_complete = "captions" in values
    role = "captions" if is_complete else "caption"
    captions = values.get(role)
    if isinstance(captions, str):
        if is_complete and captions.startswith("[") and captions.endswith("]"):
            raise UserError(
                f"{file}: row {number} ({source!r}): `captions` is the text of a list; write a row per caption, "
                "in a column `caption`, or write .jsonl or .parquet"
            )
        captions = [captions] if captions.strip() else []
    captions, key, split = ([] if captions is None else captions), "" if key is None else key, split or ""
    is_text = {
        "image": isinstance(source, str) and source != "",
        role: isinstance(captions, list) and all(isinstance(caption, str) for caption in captions),
        "key": type(values.get("key")) in (str, int, NoneType),
        "split": isinstance(values.get("split"), str | None),
    }
    wrong = next((name for name, valid in is_text.items() if not valid), None)
    if wrong is not None:
        raise UserError(f"{file}: row {number} ({source!r:.80}): {wrong} is {values.get(wrong)!r:.80}; it must be text")
    return Row(f"row {number}", source, tuple(caption.strip() for caption in captions), split, str(key), is_complete)
