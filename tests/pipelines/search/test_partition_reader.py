"""Reading partitions: matrices and tables as their receipts state, row by row, and errors of one line."""

import io
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from infra.errors import StorageError, UserError
from infra.storage.folder import FolderStore
from pipelines.features.npy import save_npy
from pipelines.search.layout import FILES, TABLE
from pipelines.search.partition import Partition, StoredFile
from pipelines.search.partition_reader import StoredMatrix, object_buffer, read_matrix, read_table

NAME = "photos-val-000000-0123abcd"
ROWS = np.arange(12, dtype=np.float16).reshape(6, 2)
ITEM = {"key": "p", "source": "p.png", "captions": ["a"], "vectors": 3, "boxes": 2, "width": 4, "height": None}


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def write(store: FolderStore, name: str, data: bytes) -> StoredFile:
    store.put_if_absent(name, data)
    return StoredFile(len(data), sha256(data).hexdigest())


def stored(store: FolderStore, values: np.ndarray = ROWS) -> StoredMatrix:
    return StoredMatrix(store, "x.npy", write(store, "x.npy", save_npy(values)), values.dtype, values.shape)


def partition(store: FolderStore, table: pa.Table, **counts: int) -> Partition:
    """Returns a partition of two items, three vectors and two boxes each, unless `counts` states otherwise."""
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table)
    file = write(store, f"{NAME}.items.arrow", buffer.getvalue())
    numbers = {"items": 2, "vectors": 6, "boxes": 4} | counts
    return Partition(NAME, "tiny", **numbers, width=2, shards=(), files=dict.fromkeys(FILES, file))


def test_rows_of_spans_are_read(store: FolderStore):
    np.testing.assert_array_equal(stored(store).read([(5, 6), (3, 3), (0, 2)]), ROWS[[5, 0, 1]])
    assert stored(store).read([(3, 3)]).shape == (0, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_values_that_are_not_finite_are_an_error(store: FolderStore, dtype: type, value: float):
    values = ROWS.astype(dtype)
    values[4, 1] = value
    matrix = stored(store, values)
    assert len(matrix.read([(0, 4)])) == 4
    with pytest.raises(UserError, match=r"x\.npy contains NaN or infinity; run `.* verify`"):
        matrix.read([(0, 4), (4, 6)])


def test_an_object_of_another_size_is_an_error(store: FolderStore):
    matrix = stored(store)
    matrix.require()
    store.replace("x.npy", b"short")
    with pytest.raises(UserError, match=rf"x\.npy has 5 bytes, expected {matrix.stored.size}; run"):
        matrix.require()
    store.delete("x.npy")
    with pytest.raises(UserError, match=rf"x\.npy does not exist, expected {matrix.stored.size}; run"):
        matrix.require()


def test_a_matrix_is_verified(store: FolderStore):
    found = write(store, "x.npy", save_npy(ROWS))
    np.testing.assert_array_equal(read_matrix(store, "x.npy", found, np.float16, (6, 2)), ROWS)
    for dtype, shape in ((np.float32, (6, 2)), (np.float16, (2, 6)), (np.float16, (12,))):
        with pytest.raises(UserError, match=r"x\.npy is float16 \(6, 2\), expected float"):
            read_matrix(store, "x.npy", found, dtype, shape)
    for other in (StoredFile(found.size, "0" * 64), StoredFile(found.size + 1, found.sha256)):
        with pytest.raises(UserError, match=r"x\.npy does not have the sha256 in the index"):
            read_matrix(store, "x.npy", other, np.float16, (6, 2))
    text = write(store, "text", b"no array at all")
    with pytest.raises(UserError, match=r"text is not a \.npy array: .*, expected float16"):
        read_matrix(store, "text", text, np.float16, (6, 2))


def test_a_matrix_without_rows_has_any_type(store: FolderStore):
    found = write(store, "x.npy", save_npy(np.empty((0, 6), np.int8)))
    assert len(read_matrix(store, "x.npy", found, np.float16, (0, 2))) == 0
    with pytest.raises(UserError, match=r"x\.npy is int8 \(0, 6\), expected float16 \(1, 2\)"):
        read_matrix(store, "x.npy", found, np.float16, (1, 2))


@pytest.mark.parametrize(("data", "reason"), [(None, "does not exist"), (b"", "is empty")])
def test_a_missing_or_empty_object_is_an_error(store: FolderStore, data: bytes | None, reason: str):
    if data is not None:
        store.put_if_absent("x", data)
    with pytest.raises(UserError, match=f"x {reason}; run `.* verify` to list every corrupt object, delete them and"):
        object_buffer(store, "x")


def test_a_file_that_cannot_be_opened_is_a_storage_error(store: FolderStore):
    (store.root / "x").mkdir()
    with pytest.raises(StorageError, match=rf"^{store.root}/x: cannot be accessed \(Is a directory\)"):
        object_buffer(store, "x")


def test_the_table_has_the_items_of_the_receipt(store: FolderStore):
    items = pa.Table.from_pylist([ITEM, ITEM], TABLE)
    assert read_table(store, partition(store, items)).equals(items)


@pytest.mark.parametrize("counts", [{"items": 3}, {"vectors": 5}, {"boxes": 5}])
def test_a_table_with_other_counts_is_an_error(store: FolderStore, counts: dict[str, int]):
    with pytest.raises(UserError, match=r"items\.arrow does not have the items of its receipt"):
        read_table(store, partition(store, pa.Table.from_pylist([ITEM, ITEM], TABLE), **counts))


def test_a_table_of_other_columns_is_an_error(store: FolderStore):
    with pytest.raises(UserError, match=r"items\.arrow does not have the items of its receipt"):
        read_table(store, partition(store, pa.table({"key": ["p", "p"]})))


def test_a_file_that_is_not_arrow_is_an_error(store: FolderStore):
    file = write(store, f"{NAME}.items.arrow", b"no table")
    of_text = Partition(NAME, "tiny", 0, 0, 0, 2, (), dict.fromkeys(FILES, file))
    with pytest.raises(UserError, match=r"items\.arrow is not an Arrow file \("):
        read_table(store, of_text)
