"""Lines of a UTF-8 text file, with an error that names the line where the file is not text."""

from collections.abc import Iterator
from pathlib import Path


def text_lines(path: Path) -> Iterator[str]:
    """Yields the lines with their ends, which are `\\n` or `\\r\\n`. A byte order mark is left out.

    Raises ValueError naming the first line that is not UTF-8.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"line {number} is not UTF-8 text") from error
