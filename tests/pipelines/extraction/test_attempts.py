"""The notes of attempts: which photo a dead process worked on alone, and when it is given up."""

import multiprocessing
import os
from pathlib import Path

import pytest

from infra.storage.folder import FolderStore
from pipelines.datasets.decode import PhotoError
from pipelines.extraction.attempts import MAX_ATTEMPTS, Attempts, noted_deaths
from pipelines.features.layout import attempts_name

pytestmark = pytest.mark.usefixtures("without_cluster")

SHARD = "features-train-000000-00000000"
in_process = multiprocessing.get_context("fork").Process


def run(target: object, *arguments: object) -> int | None:
    """Runs a function in a process of its own. Returns the exit code."""
    process = in_process(target=target, args=arguments)
    process.start()
    process.join(20)
    return process.exitcode


def work(store: FolderStore, isolate: bool) -> None:
    with Attempts(store, SHARD, "decode", isolate) as attempts:
        for key in ("good", "bad", "other"):
            with attempts.photo(key):
                if key == "bad":
                    os._exit(7)


def test_a_photo_that_ends_its_process_is_given_up(tmp_path: Path):
    store = FolderStore(tmp_path)
    for deaths in range(MAX_ATTEMPTS):
        assert noted_deaths(store, SHARD).get("decode bad", 0) == deaths
        assert run(work, store, True) == 7
    with Attempts(store, SHARD, "decode", isolate=True) as attempts:
        with pytest.raises(PhotoError, match=r"^its process died in 3 attempts to decode it$"), attempts.photo("bad"):
            raise AssertionError("not reached")
        with attempts.photo("other"):
            assert noted_deaths(store, SHARD) == {"decode bad": 3, "decode other": 1}
    assert noted_deaths(store, SHARD) == {"decode bad": 3}


def test_nothing_is_recorded_while_many_photos_are_in_work(tmp_path: Path):
    store = FolderStore(tmp_path)
    assert run(work, store, False) == 7
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [PhotoError("corrupt"), OSError("a store is unreachable"), KeyboardInterrupt()])
def test_an_error_is_not_a_death(tmp_path: Path, error: BaseException):
    store = FolderStore(tmp_path)
    with pytest.raises(type(error)), Attempts(store, SHARD, "decode", True) as attempts, attempts.photo("a"):
        raise error
    assert noted_deaths(store, SHARD) == {}


def test_a_success_forgets_earlier_deaths(tmp_path: Path):
    store = FolderStore(tmp_path)
    run(work, store, True)
    with Attempts(store, SHARD, "decode", True) as attempts, attempts.photo("bad"):
        pass
    assert noted_deaths(store, SHARD) == {}


def test_stages_count_apart(tmp_path: Path):
    """Decoding succeeds where the detector then ends the process."""
    store = FolderStore(tmp_path)
    store.replace(attempts_name(SHARD), b'{"detect bad": 2}')
    with Attempts(store, SHARD, "decode", True) as attempts, attempts.photo("bad"):
        pass
    assert noted_deaths(store, SHARD) == {"detect bad": 2}


@pytest.mark.parametrize("notes", [b"", b"[]", b'{"a": "x"}', b'{"a": null}', b"\xff"])
def test_corrupt_notes_count_as_none(tmp_path: Path, notes: bytes):
    (tmp_path / attempts_name(SHARD)).write_bytes(notes)
    assert noted_deaths(FolderStore(tmp_path), SHARD) == {}
