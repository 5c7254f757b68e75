"""The record of a failure: short enough to be stored, without credentials, and gone when the work is complete."""

from pathlib import Path

import pytest

from infra.errors import UserError
from infra.failures import MAX_CHARS, OBJECT, TRACEBACK_LINES, Failure, recorded_failure
from infra.log import bind, configure, event
from infra.storage.open import open_store

URI = "https://me:hunter2@host/path"


def failure_of(error: BaseException) -> Failure:
    with pytest.raises(type(error)) as caught:
        raise error
    return Failure.of(caught.value)


def test_a_record_has_error_command_and_last_messages():
    configure("text")
    bind(command="shan extract --dataset d.json")
    event("shard_written", f"a shard at {URI}")
    found = failure_of(UserError(f"{URI} is unreachable; start it"))
    assert (found.error, found.command) == (
        "https://host/path is unreachable; start it",
        "shan extract --dataset d.json",
    )
    assert found.log == ["a shard at https://host/path"]
    assert failure_of(KeyboardInterrupt("re-run it")).error == "interrupted: re-run it"
    defect = failure_of(ZeroDivisionError("by zero"))
    assert defect.error == "ZeroDivisionError: by zero"
    assert defect.log[-1] == "ZeroDivisionError: by zero"
    assert len(defect.log) <= 1 + TRACEBACK_LINES
    assert Failure.parse(found.to_json().encode()) == found


def test_a_long_record_keeps_the_last_messages():
    found = Failure("t", "e", "c", [f"{number} {'x' * 490}" for number in range(40)])
    text = found.to_json()
    assert len(text) <= MAX_CHARS
    assert Failure.parse(text.encode()).log[-1].startswith("39 ")


@pytest.mark.parametrize("data", [b"", b"{}", b'{"time":1,"error":"","command":"","log":[]}'])
def test_other_data_is_not_a_record(data: bytes):
    with pytest.raises(ValueError):  # noqa: PT011 - one of several
        Failure.parse(data)


def test_a_record_is_deleted_when_the_work_is_complete(tmp_path: Path):
    store = open_store(str(tmp_path))
    with pytest.raises(KeyboardInterrupt), recorded_failure(store):
        raise KeyboardInterrupt
    assert Failure.parse(store.read(OBJECT)).error == "interrupted"
    with recorded_failure(store):
        pass
    assert store.info(OBJECT) is None
