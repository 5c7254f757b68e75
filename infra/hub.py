"""Downloads from the Hugging Face hub or a mirror, whose client has a timeout per read, but no deadline."""

from collections.abc import Callable, Sequence
from concurrent.futures import wait
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from infra.in_thread import in_thread
from infra.minimum_rate import MinimumRate
from infra.notice import notice

NOTICE_S = 10.0
"""Seconds after which a line names the model that is waited for."""
GRACE_S = 120.0
"""Seconds for a request, beyond those that its bytes take at the minimum rate."""
_POLL_S = 0.2

T = TypeVar("T")


def within_rate(model: str, request: Callable[[], T]) -> T:
    """Returns the result of `request`, which fetches files of the model `name` or `name@revision` into the hub's cache.

    Raises TimeoutError if the cache grows less than the minimum rate requires.
    """
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE, f"models--{model.partition('@')[0].replace('/', '--')}", "blobs")
    before, rate, result = _size(folder), MinimumRate(GRACE_S), in_thread(request)
    with notice(f"waiting for {model} of the hub {constants.ENDPOINT} for {NOTICE_S:.0f} s", NOTICE_S):
        while not wait([result], _POLL_S).done:
            if rate.is_missed(_size(folder) - before):
                raise TimeoutError(f"the hub {constants.ENDPOINT} sends less than {rate}")
    return result.result()


def fetch_snapshot(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Returns the folder, named by its commit, with the files of a model; those that the hub's cache lacks are fetched.

    Raises what `huggingface_hub` raises, and TimeoutError as `within_rate`.
    """
    from huggingface_hub import snapshot_download

    model = name if revision is None else f"{name}@{revision}"
    return Path(within_rate(model, lambda: snapshot_download(name, revision=revision, allow_patterns=list(patterns))))


def _size(folder: Path) -> int:
    """Returns the bytes of the files in a folder, those of unfinished downloads included."""
    size = 0
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in folder.iterdir():
            with suppress(FileNotFoundError):  # renamed meanwhile
                size += path.stat().st_size
    return size
