"""A job does not replace what another one has published since it began."""

from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.folder import FolderStore
from infra.storage.replacement import Replacement

REFUSED = r"/index.json: another job has replaced it since this one began, so nothing was published; re-run"


@pytest.mark.parametrize("before", [None, b"0"])
def test_a_stalled_job_does_not_replace_its_successors_object(before: bytes | None, tmp_path: Path):
    store = FolderStore(tmp_path)
    if before is not None:
        store.replace("index.json", before)
    stalled, successor = (Replacement.of(store, "index.json") for _ in range(2))
    successor.write(b"2")
    with pytest.raises(UserError, match=REFUSED):
        stalled.write(b"1")
    assert store.read("index.json") == b"2"
    stalled.write(b"2")  # the same work


def test_of_two_first_writers_one_is_refused(tmp_path: Path):
    class Overtaken(FolderStore):
        """Another process writes between the look and the write."""

        def put_if_absent(self, name: str, data: object) -> bool:
            self.replace(name, b"2")
            return False

    with pytest.raises(UserError, match=REFUSED):
        Replacement.of(Overtaken(tmp_path), "index.json").write(b"1")
