"""Objects and files piece by piece. `test_base.py` has large objects of every store."""

import io
from pathlib import Path

import pytest

from infra.storage import pieces
from infra.storage.folder import FolderStore


@pytest.mark.parametrize("size", [0, 3, 4, 8, 9])
def test_pieces_are_the_bytes_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 4)
    data = bytes(range(size))
    store = FolderStore(tmp_path)
    store.put_if_absent("a", data)
    file = io.BytesIO(data)
    file.seek(2)
    for found in (list(pieces.object_pieces(store, "a")), list(pieces.file_pieces(file))):
        assert b"".join(found) == data
        assert all(0 < len(piece) <= 4 for piece in found)


def test_a_missing_object_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        list(pieces.object_pieces(FolderStore(tmp_path), "a"))
