"""Corruption of valid input: of bytes, as disks and attackers do, and of documents, as people edit them.

It is seeded, or at a given place of a file.
"""

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ODD_BYTES = [
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"',
    b"\\",
    b"\n",
    b"\r\n",
    b",",
    b"\t",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
]
ODD_BYTES += [
    b"-1",
    b"1e999",
    b"NaN",
    b"99999999999999999999",
    b"../../etc/passwd",
    "\u202e\U0001f984".encode(),
    b"%00",
]
ODD_VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    2**70,
    "",
    " ",
    "\0",
    "../x",
    "/etc/passwd",
    "s3://",
    "a\nb",
]
ODD_VALUES += ["\ud800", [], {}, [[]], {"a": None}, "x" * 70_000, "\u0130\u202e"]


def corrupted(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yields `count` corrupt copies: bits flipped; bytes removed, repeated, moved or inserted; the end removed."""
    rng = random.Random(seed)  # noqa: S311
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            at = rng.randrange(len(changed) + 1)
            span = slice(at, at + rng.choice([1, 1, 4, 50]))
            kind = rng.randrange(6)
            if kind == 0 and at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del changed[span]
            elif kind == 2:
                changed[at:at] = changed[span]
            elif kind == 3:
                changed[at:at] = rng.choice(ODD_BYTES)
            elif kind == 4:
                changed[span] = rng.choice(ODD_BYTES)
            elif rng.random() < 0.2:
                del changed[at:]
        yield bytes(changed)


def edited(document: Any, count: int, seed: int) -> Iterator[Any]:
    """`count` copies of a JSON document with a value or two made odd, doubled, moved or taken away."""
    rng = random.Random(seed)  # noqa: S311
    for _ in range(count):
        changed = copy.deepcopy(document)
        for _ in range(rng.choice([1, 1, 2])):
            places = list(_places(changed))
            if not places:
                break
            holder, key = rng.choice(places)
            kind = rng.randrange(4)
            if kind == 0:
                del holder[key]
            elif kind == 1:
                other, its = rng.choice(places)
                holder[key] = copy.deepcopy(other[its])
            elif kind == 2 and isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
            else:
                holder[key] = rng.choice(ODD_VALUES)
        yield changed


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (holder, key or index) of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in list(items):
        yield value, key
        yield from _places(below)


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Replaces a JSON document by what `change` returns, or by what it did to it if it returns None."""
    document = json.loads(path.read_text())
    path.write_text(json.dumps(change(document) or document))


def flip_bit(path: Path, at: int) -> None:
    """Flips a bit of the byte at an offset of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    """Removes the last 700 bytes of a file."""
    path.write_bytes(path.read_bytes()[:-700])
