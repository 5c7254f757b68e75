"""Counts what a reader answers to corrupt input."""

from collections.abc import Callable
from typing import Any

from infra.errors import UserError

INPUTS = {"karpathy": 4000, "csv": 1500, "jsonl": 1500, "parquet": 1500, "shards": 3000, "records": 2000, "npy": 3000}
INPUTS |= {"tsv": 400, "config": 300, "coco": 3000, "flickr": 2000, "tab": 1500, "images": 1000}
INPUTS |= {"webdataset": 2000, "tar index": 1000, "scan": 600, "uncaptioned tsv": 200, "folder": 1000}
REDUCTION = 10
"""The unit tier takes the first 1/REDUCTION of every reader's inputs."""
Inputs = Callable[[str], int]
"""Returns the number of inputs of a reader, by its name."""


class Tally:
    """Counts the answers and the errors of a reader, both of which must occur."""

    def __init__(self, reader: str, inputs: Inputs) -> None:
        self.reader, self.inputs, self.right, self.refused = reader, inputs(reader), 0, 0

    def __call__(self, read: Callable[[], Any], is_right: Callable[[Any], bool], what: object) -> None:
        """Reads one input."""
        try:
            found = read()
        except UserError as error:
            message = str(error)
            assert 0 < len(message) < 1100, what
            assert message == " ".join(message.split()), what
            self.refused += 1
        except Exception as error:
            raise AssertionError(f"{self.reader}: input {what!r}") from error
        else:
            assert is_right(found), what
            self.right += 1

    def check(self) -> None:
        """Checks the counts after the last input."""
        total = self.right + self.refused
        assert total == self.inputs
        print(f"{self.reader}: {total} inputs, {self.right} answered, {self.refused} refused")
        assert self.right
        assert self.refused
