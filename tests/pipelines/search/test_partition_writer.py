"""Writing partitions: what they contain, equal bytes after any interruption, and files that were left behind."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infra.errors import UserError
from infra.storage.folder import FolderStore
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import LoadedModel
from pipelines.search.layout import FILES, file_name, partition_receipt_name
from pipelines.search.partition import read_partition_receipt
from pipelines.search.partition_reader import read_table
from pipelines.search.partition_writer import stored_file, write_partition
from tests.support.feature_sets import manifest, write_set
from tests.support.indexes import contents, network, tasks


class InterruptedError_(Exception):
    """Stands for a process that ends before a write."""


@dataclass(frozen=True)
class Interrupted(FolderStore):
    """A folder whose writer ends before its n-th object."""

    left: list[int]

    def put_if_absent(self, name: str, data: Any) -> bool:
        if not self.left[0]:
            raise InterruptedError_
        self.left[0] -= 1
        return super().put_if_absent(name, data)


def test_a_partition_has_encodings_means_boxes_and_items(
    indexed_features: FeatureSet, indexed_model: LoadedModel, tmp_path: Path
):
    store, shan = FolderStore(tmp_path), indexed_model.shan
    task = next(task for task in tasks([indexed_features]) if task.name.startswith("photos-val"))
    partition = write_partition(store, task, indexed_features.store, shan, "float16")
    split = indexed_features.split("val")
    with torch.inference_mode():
        encoded = shan.encode_photos(torch.from_numpy(split[: partition.items])).numpy()
    vectors = np.load(tmp_path / file_name(task.name, "vectors"))
    np.testing.assert_array_equal(vectors, encoded.reshape(-1, 16).astype(np.float16))
    pooled = np.load(tmp_path / file_name(task.name, "pooled"))
    means = encoded.mean(axis=1)
    np.testing.assert_allclose(pooled, means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-3)
    boxes = np.load(tmp_path / file_name(task.name, "boxes"))
    np.testing.assert_array_equal(boxes, np.concatenate([split.boxes(row) for row in range(partition.items)]))
    table = read_table(store, partition).to_pylist()
    assert table[0] == {
        "key": "p4", "source": "p4.png", "captions": ["a photo of 4", "number 4 <again>"],
        "vectors": 3, "boxes": 3, "width": 60, "height": 40,
    }  # fmt: skip
    assert [row["key"] for row in table] == split.keys[: partition.items]


def test_a_partition_of_captions_has_a_row_for_each(
    indexed_features: FeatureSet, indexed_model: LoadedModel, tmp_path: Path
):
    store = FolderStore(tmp_path)
    task = next(task for task in tasks([indexed_features]) if task.name.startswith("captions-val"))
    partition = write_partition(store, task, indexed_features.store, indexed_model.shan, "float16")
    table = read_table(store, partition).to_pylist()
    assert [row["captions"] for row in table[:2]] == [["a photo of 4"], ["number 4 <again>"]]
    assert (partition.boxes, table[0]["vectors"]) == (0, len(indexed_model.shan.text_encoder.tokens("a photo of 4")))


@pytest.mark.parametrize("before", range(len(FILES) + 1))
def test_an_interrupted_partition_ends_with_the_same_bytes(
    indexed_features: FeatureSet, indexed_model: LoadedModel, tmp_path: Path, before: int
):
    task = tasks([indexed_features])[0]
    whole = FolderStore(tmp_path / "whole")
    write_partition(whole, task, indexed_features.store, indexed_model.shan, "float16")
    with pytest.raises(InterruptedError_):
        write_partition(
            Interrupted(tmp_path / "cut", [before]), task, indexed_features.store, indexed_model.shan, "float16"
        )
    store = FolderStore(tmp_path / "cut")
    assert read_partition_receipt(store, task.name) is None
    write_partition(store, task, indexed_features.store, indexed_model.shan, "float16")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "cut")) == len(FILES) + 1


def test_a_second_writer_adopts_what_the_first_one_wrote(
    indexed_features: FeatureSet, indexed_model: LoadedModel, tmp_path: Path
):
    """A machine with other arithmetic has other last digits: files of both must not be mixed under one receipt."""
    task, store = tasks([indexed_features])[0], FolderStore(tmp_path)
    first = write_partition(store, task, indexed_features.store, network(indexed_features, seed=1), "float16")
    again = write_partition(store, task, indexed_features.store, indexed_model.shan, "float16")
    assert again == first
    (tmp_path / partition_receipt_name(task.name)).unlink()
    assert write_partition(store, task, indexed_features.store, indexed_model.shan, "float16") == first


def test_a_lost_file_of_other_arithmetic_gets_another_receipt(
    indexed_features: FeatureSet, indexed_model: LoadedModel, tmp_path: Path
):
    task, store = tasks([indexed_features])[0], FolderStore(tmp_path)
    first = write_partition(store, task, indexed_features.store, network(indexed_features, seed=1), "float16")
    (tmp_path / file_name(task.name, "vectors")).unlink()
    again = write_partition(store, task, indexed_features.store, indexed_model.shan, "float16")
    assert again.files["vectors"] != first.files["vectors"]
    assert again.files == {file: stored_file(store, file_name(task.name, file)) for file in FILES}
    assert read_partition_receipt(store, task.name) == again


def test_a_corrupt_file_gets_no_new_receipt(indexed_features: FeatureSet, indexed_model: LoadedModel, tmp_path: Path):
    """The loss of another file must not make it valid."""
    task, store = tasks([indexed_features])[0], FolderStore(tmp_path)
    first = write_partition(store, task, indexed_features.store, indexed_model.shan, "float16")
    (tmp_path / file_name(task.name, "vectors")).unlink()
    pooled = tmp_path / file_name(task.name, "pooled")
    pooled.write_bytes(pooled.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"pooled\.npy does not have the sha256 in its receipt; delete it and run"):
        write_partition(store, task, indexed_features.store, indexed_model.shan, "float16")
    assert read_partition_receipt(store, task.name) == first


def test_a_file_of_another_size_is_refused(indexed_features: FeatureSet, indexed_model: LoadedModel, tmp_path: Path):
    task, store = tasks([indexed_features])[0], FolderStore(tmp_path)
    (tmp_path / file_name(task.name, "vectors")).write_bytes(b"something else")
    with pytest.raises(UserError, match=r"vectors\.npy has 14 bytes, expected \d+; delete it and run"):
        write_partition(store, task, indexed_features.store, indexed_model.shan, "float16")


def test_a_corrupt_receipt_is_replaced(indexed_features: FeatureSet, indexed_model: LoadedModel, tmp_path: Path):
    task, store = tasks([indexed_features])[0], FolderStore(tmp_path)
    first = write_partition(store, task, indexed_features.store, indexed_model.shan, "float16")
    (tmp_path / partition_receipt_name(task.name)).write_bytes(b"{}")
    write_partition(store, task, indexed_features.store, indexed_model.shan, "float16")
    assert read_partition_receipt(store, task.name) == first


def test_encodings_beyond_float16_are_refused(tmp_path: Path):
    photos = manifest(tmp_path, 12)
    huge = {"p0": {"regions_RF": np.full((3, 8), 60000, np.float16)}}
    features = write_set(tmp_path, photos, huge)
    shan = network(features, normalize=False)
    with torch.no_grad():
        shan.image_encoder.project.weight.fill_(1.0)
    with pytest.raises(UserError, match=r"p0\.png: its encoding is beyond float16; use another model"):
        write_partition(FolderStore(tmp_path / "out"), tasks([features])[0], features.store, shan, "float16")
