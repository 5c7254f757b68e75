"""Readers of the text files of Flickr8k and Flickr30k.

- Captions (`Flickr8k.token.txt`, `results_20130124.token`): `<file name>#<number>`, a tab and the caption on each line.
- Split lists (`Flickr_8k.trainImages.txt`): a file name on each line, with its ending or without.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from infra.errors import UserError
from pipelines.datasets.row_table import Row
from pipelines.datasets.rows import numbered
from pipelines.datasets.text_lines import text_lines

TOKEN_LINE = re.compile(r"([^\t]+)#\d+\t(.*)", re.DOTALL)


def flickr_rows(path: Path) -> Iterator[Row]:
    """Yields a row per caption. A line without a caption adds its photo only. Raises UserError naming another line."""
    try:
        for where, line in numbered(text_lines(path)):
            match = TOKEN_LINE.fullmatch(line)
            if not match or "://" in match[1]:
                raise UserError(
                    f"{path}: {where} ({line!r:.80}) is not `<file name>#<number>`, a tab and a caption; correct it"
                )
            caption = match[2].strip()
            yield Row(where, match[1], (caption,) if caption else ())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as text ({error}); save it as UTF-8") from error


def split_list(path: Path) -> Iterator[tuple[str, str]]:
    """Yields `line <number>` and the name of each line. Raises UserError naming a line that is not text."""
    try:
        for where, line in numbered(text_lines(path)):
            if name := line.strip():
                yield where, name
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as text ({error}); save it as UTF-8") from error
