"""Readers of features and configs on seeded corrupt input: each returns a correct result or raises one UserError.

A result is correct if an independent reader of the same input agrees or, where the input carries checksums, if it is
what was stored.
"""

import json
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from infra.errors import UserError
from jobs import cli
from jobs.config import Config
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import index_digest
from pipelines.features.npy import view_npy
from pipelines.features.precomputed.npy_rows import NpyRows
from pipelines.features.precomputed.scan import import_scan
from pipelines.features.precomputed.tsv import import_tsv
from tests.support import feature_sets
from tests.support.mutations import corrupted, edited
from tests.support.precomputed import Photo, karpathy_file, scan_folder
from tests.support.tally import INPUTS, Inputs, Tally


def test_scan(tmp_path: Path, inputs: Inputs):
    """Captions and ids take turns."""
    folder, output, tally = scan_folder(tmp_path / "in", {"train": 3}, 1, 2), tmp_path / "out", Tally("scan", inputs)
    ids, lines, pairs = (folder / f"train_{name}" for name in ("ids.txt", "caps.txt", "caps.tsv"))
    good = {ids: ids.read_bytes(), lines: lines.read_bytes()}
    good[pairs] = "".join(f"train{n % 3}.jpg\tcaption {n} é\n" for n in range(7)).encode()

    def is_right(imported: Any) -> bool:
        meta, names = imported.feature_set.split("train").meta, text_of(ids)
        if pairs.exists():
            captions = [
                [line.split("\t", 1)[1] for line in text_of(pairs) if line.split("\t")[0].strip() == name]
                for name in names
            ]
        else:
            per_image = len(text_of(lines)) // 3
            captions = [text_of(lines)[per_image * n : per_image * (n + 1)] for n in range(3)]
        return [row["captions"] for row in meta] == [[text.strip() for text in each] for each in captions]

    for path, data in good.items():
        for changed in corrupted(data, tally.inputs // len(good), seed=82):
            path.write_bytes(changed)
            tally(lambda: import_scan(folder, str(output), None, 3, lambda _: None), is_right, changed)
            shutil.rmtree(output, ignore_errors=True)
        path.write_bytes(data)
        if path == lines:
            lines.unlink()
    tally.check()


def text_of(path: Path) -> list[str]:
    """Returns the lines of a file."""
    return path.read_bytes().decode("utf-8-sig").removesuffix("\n").split("\n")


def test_shards(tmp_path: Path, inputs: Inputs):
    """Objects of a feature set take turns. A reader gets what was written or an error."""
    features = feature_sets.write_set(tmp_path, feature_sets.manifest(Path("/"), 12))  # the same bytes everywhere
    expected, tally = contents(features.uri), Tally("shards", inputs)
    objects = sorted(path for path in Path(features.uri).iterdir() if path.suffix in (".json", ".tar", ".parquet"))
    read_objects = [p for p in objects if not p.name.startswith(("sizes", "snapshot-", "quarantine"))]
    copies = [next_of(path) for path in read_objects]
    for number in range(tally.inputs):
        path, source = read_objects[number % len(read_objects)], copies[number % len(read_objects)]
        path.write_bytes(source())
        tally(lambda: contents(features.uri), lambda found: same(found, expected), (path.name, number))
        path.write_bytes(source.good)
    tally.check()


def test_records_of_a_feature_set(tmp_path: Path, inputs: Inputs):
    """Index and receipts are edited, also by an attacker who recomputes the digest."""
    features = feature_sets.write_set(tmp_path, feature_sets.manifest(Path("/"), 12))
    expected, tally = contents(features.uri), Tally("records", inputs)
    records = [Path(features.uri, "index.json"), *sorted(Path(features.uri).glob("*.receipt.json"))]
    each = tally.inputs // 2
    for path in records[:2]:
        good = path.read_bytes()
        for data in [b"null", b"5", b'"x"', b"[" * 100_000]:
            path.write_bytes(data)
            with pytest.raises(UserError):
                list(FeatureSet.open(features.uri).receipts)
        path.write_bytes(good)
    for number, path in enumerate(records[:2]):
        good = path.read_bytes()
        for changed in edited(json.loads(good), each, seed=50 + number):
            path.write_text(json.dumps(changed))
            tally(lambda: contents(features.uri), lambda found: same(found, expected), changed)
            path.write_bytes(good)
            if path.name == "index.json" and isinstance(changed, dict) and isinstance(changed.get("detector"), dict):
                read_forged_index(features.uri, changed)
    tally.check()


def read_forged_index(uri: str, index: dict[str, Any]) -> None:
    """Reads an index that was edited together with its digest. Only a UserError may be raised."""
    path = Path(uri, "index.json")
    good = path.read_bytes()
    with suppress(UserError, UnicodeEncodeError):  # raised by text that cannot be encoded
        path.write_text(json.dumps(index | {"feature_set": index_digest(index)}))
        contents(uri)
    path.write_bytes(good)


def test_npy(tmp_path: Path, inputs: Inputs):
    """The importer and the shard reader return the array that the bytes encode, or raise an error."""
    array = np.random.default_rng(0).normal(size=(4, 3, 8)).astype(np.float32)
    np.save(tmp_path / "good.npy", array)
    data, tally, path = (tmp_path / "good.npy").read_bytes(), Tally("npy", inputs), tmp_path / "bad.npy"
    for changed in corrupted(data, tally.inputs, seed=60):
        path.write_bytes(changed)
        tally(partial(npy_values, path), lambda found: found[0].tobytes() == found[1].tobytes(), changed[:160])
        with suppress(ValueError):
            view_npy(memoryview(changed))
    tally.check()


def npy_values(path: Path) -> tuple[Any, Any]:
    """Returns all rows as the importer reads them and as NumPy does."""
    rows = NpyRows.open(path)
    return rows.read(0, rows.shape[0]), np.load(path, allow_pickle=False)


class next_of:
    """Corrupt copies of a file, one for each call."""

    def __init__(self, path: Path) -> None:
        self.good = path.read_bytes()
        self._copies = corrupted(self.good, INPUTS["shards"], seed=len(self.good))

    def __call__(self) -> bytes:
        return next(self._copies)


def contents(uri: str) -> dict[str, Any]:
    """Returns everything that training and evaluation read from a feature set."""
    features, found = FeatureSet.open(uri), {}
    for name in ("train", "val", "test"):
        split = features.split(name)
        boxes = [split.boxes(row).tobytes() for row in range(len(split))]
        found[name] = (split.keys, np.asarray(split[:]).tobytes(), boxes, split.captions)
    return found


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return found == expected


def test_tsv(tmp_path: Path, inputs: Inputs):
    """Every photo is in the feature set with its own regions, or rejected with a reason."""
    ids = [str(n) for n in range(101, 107)]
    photos = [Photo(id_, regions=3) for id_ in ids]
    splits = ["train", "train", "train", "train", "val", "test"]
    dataset = karpathy_file(tmp_path / "d.json", {f"{i}.jpg": s for i, s in zip(ids, splits, strict=True)})
    path, output, tally = tmp_path / "a.tsv", tmp_path / "out", Tally("tsv", inputs)
    by_key = {photo.image_id: photo for photo in photos}

    def is_right(imported: Any) -> bool:
        features, lines = imported.feature_set, path.read_bytes().splitlines(keepends=True)
        intact = {key for key, photo in by_key.items() if lines.count(photo.six().encode()) == 1}
        right = {
            key: regions_of(features)[key] == by_key[key].features.astype(np.float16).tobytes()
            for key in regions_of(features)
        }
        rejected = [row.key for row in features.rejected]
        counted = sorted([*right, *rejected]) == sorted(by_key) and all(row.reason for row in features.rejected)
        return counted and all(right[key] for key in intact & set(right)) and len(intact & set(rejected)) <= 1

    for data in corrupted("".join(photo.six() for photo in photos).encode(), tally.inputs, seed=34):
        path.write_bytes(data)
        tally(lambda: import_tsv(path, dataset, str(output), 2, lambda _: None), is_right, data)
        shutil.rmtree(output, ignore_errors=True)
    tally.check()


def test_tsv_without_a_data_set(tmp_path: Path, inputs: Inputs):
    """Every id of a row that can be read is a photo: with the regions of its row, or rejected with a reason."""
    photos = [Photo(str(n), regions=3) for n in range(101, 107)]
    path, output, tally = tmp_path / "a.tsv", tmp_path / "out", Tally("uncaptioned tsv", inputs)
    by_line = {photo.six().encode(): photo for photo in photos}

    def is_right(imported: Any) -> bool:
        features, lines = imported.feature_set, path.read_bytes().splitlines(keepends=True)
        regions = regions_of(features)
        intact = {by_line[line].image_id: by_line[line] for line in lines if line in by_line}
        stored = {
            key for key, photo in intact.items() if regions.get(key) == photo.features.astype(np.float16).tobytes()
        }
        rejected = {row.key for row in features.rejected}
        return len(stored | rejected) >= len(intact) and all(row.reason for row in features.rejected)

    for data in corrupted(b"".join(by_line), tally.inputs, seed=35):
        path.write_bytes(data)
        tally(lambda: import_tsv(path, None, str(output), 2, lambda _: None), is_right, data)
        shutil.rmtree(output, ignore_errors=True)
    tally.check()


def regions_of(features: FeatureSet) -> dict[str, bytes]:
    """Returns the regions of every photo, by key."""
    found = {}
    for name in {receipt.split for receipt in features.receipts if receipt.written}:
        split = features.split(name)
        found |= {key: np.asarray(split[[row]][0]).tobytes() for row, key in enumerate(split.keys)}
    return found


def test_config(tmp_path: Path, inputs: Inputs):
    """A YAML file that is accepted sets exactly the fields that it names."""
    good = "model:\n  joint_dim: 64\n  gate: scalar\ntrain:\n  epochs: 4\n  learning_rate: 2.0e-3\n  use_gpu: false\n"
    path, tally = tmp_path / "c.yaml", Tally("config", inputs)
    sections = tuple(Config.__dataclass_fields__)
    for data in corrupted(good.encode(), tally.inputs, seed=40):
        path.write_bytes(data)
        tally(
            lambda: cli.parse("train", "", lambda _: None, sections, [f"--config={path}"])[1],
            lambda config: agrees(config.flat(), {**Config().flat(), **fields_of(path)}),
            data,
        )
    tally.check()


def fields_of(path: Path) -> dict[str, Any]:
    """Returns the fields that a YAML file sets, by dotted name."""
    document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return {f"{part}.{name}": value for part, fields in document.items() for name, value in fields.items()}


def agrees(fields: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Compares field by field, numbers by value (20e-3 is a string in YAML 1.1)."""
    return fields.keys() == wanted.keys() and all(
        value == wanted[name] or (isinstance(value, int | float) and float(value) == float(wanted[name]))
        for name, value in fields.items()
    )
