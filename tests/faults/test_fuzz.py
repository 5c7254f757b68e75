"""Readers of external data on seeded corrupt input: each returns a right answer or raises one UserError.

An answer is right if an independent reader of the same input agrees or, where the input carries checksums, if it is
what was stored. INPUTS is the number of inputs for each reader; the unit tier takes the first few of them.
"""

import csv
import io
import json
import posixpath
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import webdataset
import yaml

from infra.errors import UserError
from jobs import cli
from jobs.config import Config
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.formats import TABLES, detect
from pipelines.datasets.importer import DatasetFiles, dataset_rows, import_dataset
from pipelines.datasets.manifest import LEARNING_SPLITS, SPLITS, Manifest
from pipelines.datasets.photo_sources import photo_uri, read_photo
from pipelines.datasets.rows import DatasetFile
from pipelines.datasets.stored_tar_index import INDEXES
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import index_digest
from pipelines.features.npy import view_npy
from pipelines.features.precomputed.npy_rows import NpyRows
from pipelines.features.precomputed.scan import import_scan
from pipelines.features.precomputed.tsv import import_tsv
from tests.support import feature_sets
from tests.support.mutations import corrupted, edited
from tests.support.precomputed import Photo, karpathy_file, scan_folder
from tests.support.webdataset_tars import img2dataset_shard

INPUTS = {"karpathy": 4000, "csv": 1500, "jsonl": 1500, "parquet": 1500, "shards": 3000, "records": 2000, "npy": 3000}
INPUTS |= {"tsv": 400, "config": 300, "coco": 3000, "flickr": 2000, "tab": 1500, "images": 1000}
INPUTS |= {"webdataset": 2000, "tar index": 1000, "scan": 600, "uncaptioned tsv": 200}
SHARE = 5
"""The unit tier takes every reader's first 1/SHARE of the inputs."""
Inputs = Callable[[str], int]


@pytest.fixture(
    params=[pytest.param(True, id="few", marks=pytest.mark.unit), pytest.param(False, id="all", marks=pytest.mark.long)]
)
def inputs(request: pytest.FixtureRequest) -> Inputs:
    """Returns a function from a reader to the number of its inputs."""
    return lambda reader: INPUTS[reader] // (SHARE if request.param else 1)


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


def is_valid(manifest: Manifest) -> bool:
    """Returns whether a manifest has unique keys, no empty caption, known splits and sources inside the photo root."""
    photos = list(manifest.photos())
    keys = {photo.key for photo in photos}
    captions = all(c.strip() for photo in photos for c in photo.captions)
    below = all("://" in photo.source or ".." not in Path("/", photo.source).parts for photo in photos)
    below &= not any(photo.source.startswith("/") for photo in photos)
    return below and len(keys) == len(photos) and captions and all(photo.split in SPLITS for photo in photos)


def read_rows(path: Path) -> Manifest:
    """Returns the manifest of a data set whose photos need not exist."""
    name, rows = dataset_rows(path)
    return Manifest.build(name, "", rows)


def test_karpathy(tmp_path: Path, inputs: Inputs):
    images = [
        {"filename": f"{i}.jpg", "split": split, "sentences": [{"raw": f"a photo {i}"}, {"raw": "Zwölf Boxkämpfer"}]}
        for i, split in enumerate(("train", "restval", "val", "test"))
    ]
    document = {"dataset": "tiny", "images": images}
    path, tally = tmp_path / "dataset.json", Tally("karpathy", inputs)

    def is_right(manifest: Manifest) -> bool:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))["images"]
        captions = [[sentence["raw"].strip() for sentence in row["sentences"]] for row in rows]
        return is_valid(manifest) and [list(photo.captions) for photo in manifest.photos()] == captions

    mutate_json(path, document, tally, is_right)


def test_coco(tmp_path: Path, inputs: Inputs):
    images = [{"id": i, "file_name": f"{i}.jpg", "coco_url": f"http://host/train2017/{i}.jpg"} for i in range(1, 5)]
    annotations = [{"image_id": 1 + n % 4, "id": n, "caption": f"Zwölf Boxkämpfer {n}"} for n in range(8)]
    document = {"images": images, "annotations": annotations}
    path, tally = tmp_path / "captions_train2017.json", Tally("coco", inputs)

    def is_right(manifest: Manifest) -> bool:
        read = json.loads(path.read_text(encoding="utf-8-sig"))
        captions = {
            image["file_name"]: [
                a["caption"].strip() for a in read.get("annotations", []) if a["image_id"] == image["id"]
            ]
            for image in read["images"]
        }
        return is_valid(manifest) and {p.source: list(p.captions) for p in manifest.photos()} == captions

    mutate_json(path, document, tally, is_right)


def mutate_json(path: Path, document: dict[str, Any], tally: Tally, is_right: Callable[[Manifest], bool]) -> None:
    """Reads corrupt bytes of a document and documents with edited fields, in equal parts."""
    half = tally.inputs // 2
    for data in corrupted(json.dumps(document, ensure_ascii=False).encode(), half, seed=1):
        path.write_bytes(data)
        tally(partial(read_rows, path), is_right, data)
    for changed in edited(document, half, seed=2):
        path.write_text(json.dumps(changed))
        tally(partial(read_rows, path), is_right, changed)
    tally.check()


def test_flickr(tmp_path: Path, inputs: Inputs):
    """Captions and a split list take turns. A line gives a caption of the photo before its last `#`, or an error."""
    photos = ["a.jpg", "b c.jpg", "é#1.jpg"]
    token, train = tmp_path / "token.txt", tmp_path / "train.txt"
    good = {
        token: "".join(f'{photo}#{n}\t{n} Boxkämpfer , in "{photo}" .\n' for photo in photos for n in range(2)),
        train: "".join(f"{photo}\n" for photo in photos[:2]),
    }
    for path, text in good.items():
        path.write_text(text)
    tally = Tally("flickr", inputs)

    def read() -> Manifest:
        name, rows = dataset_rows(DatasetFiles((str(token), f"train={train}"), "flickr"))
        return Manifest.build(name, "", rows)

    def is_right(manifest: Manifest) -> bool:
        lines = [line for line in token.read_bytes().decode("utf-8-sig").split("\n") if line.strip("\r")]
        captions: dict[str, list[str]] = {}
        for line in lines:
            name, _, caption = line.partition("\t")
            captions.setdefault(name.rpartition("#")[0], []).extend([caption.strip()] if caption.strip() else [])
        return is_valid(manifest) and all(list(p.captions) == captions[p.source] for p in manifest.photos())

    for path, text in good.items():
        for data in corrupted(text.encode(), tally.inputs // 2, seed=3):
            path.write_bytes(data)
            tally(read, is_right, data)
        path.write_text(text)
    tally.check()


def test_tables(tmp_path: Path, inputs: Inputs):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"x")
    rows = [{"uri": f"{name}.png", "caption": f"a {name}, of course", "split": "train"} for name in "aabbcc"]
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink, write_page_checksum=True)
    intact = {
        "csv": delimited(tmp_path / "good.csv", rows, ","),
        "tab": delimited(tmp_path / "good.tsv", rows, "\t"),
        "jsonl": "\n".join(json.dumps(row) for row in rows).encode(),
        "parquet": sink.getvalue().to_pybytes(),
    }
    for number, (kind, data) in enumerate(intact.items()):
        path, tally = tmp_path / f"t.{kind.replace('tab', 'tsv')}", Tally(kind, inputs)
        for changed in corrupted(data, tally.inputs, seed=10 + number):
            path.write_bytes(changed)
            tally(partial(import_dataset, path, tmp_path), partial(has_every_row, path), changed)
        tally.check()


def delimited(path: Path, rows: list[dict[str, str]], delimiter: str) -> bytes:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path.read_bytes()


def has_every_row(path: Path, manifest: Manifest) -> bool:
    """Returns whether a manifest has the captions of all rows."""
    file = DatasetFile(str(path), path, {}, "")
    captions = sum(len(row.captions) for row in TABLES[detect(file)](file))
    return is_valid(manifest) and sum(len(photo.captions) for photo in manifest.photos()) == captions


def test_images_in_parquet(tmp_path: Path, inputs: Inputs):
    """The reader returns bytes, which are checked when they are decoded, or rejects the photo."""
    rows = [{"image": {"bytes": bytes([n]) * 300, "path": f"{n}.jpg"}, "caption": f"{n}"} for n in range(6)]
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    total, rejected = inputs("images"), 0
    for number, data in enumerate(corrupted(path.read_bytes(), total, seed=70)):
        changed = tmp_path / f"{number}.parquet"
        changed.write_bytes(data)
        try:
            assert isinstance(read_photo(f"parquet://image/{number % 6}::{changed}"), bytes)
        except PhotoError:
            rejected += 1
        changed.unlink()
    print(f"images: {total} inputs, {rejected} rejected")
    assert 0 < rejected < total


def test_webdataset(tmp_path: Path, inputs: Inputs):
    """Every image that webdataset reads is read from its place, with the captions that webdataset reads."""
    images = [(f"00000000{n}", bytes([n]) * (300 * n), f"Foto {n}" * (n % 2)) for n in range(1, 5)]
    data = img2dataset_shard(tmp_path / "good.tar", images).read_bytes()
    tally = Tally("webdataset", inputs)

    def is_right(manifest: Manifest, path: Path) -> bool:
        members = members_of(path)
        found = {}
        for photo in manifest.photos():
            with suppress(PhotoError):
                content = read_photo(photo_uri(manifest.root, photo.source))
                found[photo.source.split("/", 2)[2]] = content, photo.captions
        expected = {
            name: (content, captions_of(name, members)) for name, content in members.items() if name.endswith(".jpg")
        }
        return is_valid(manifest) and found == expected

    for number, changed in enumerate(corrupted(data[: data.rindex(b"}") + 2048], tally.inputs, seed=80)):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(changed)
        tally(partial(import_dataset, path), partial(is_right, path=path), number)
        path.unlink()
    tally.check()


def members_of(path: Path) -> dict[str, bytes]:
    """Returns the members that webdataset reads before its first error."""
    members = {}
    with suppress(Exception):
        for member in webdataset.tariterators.tar_file_iterator(io.BytesIO(path.read_bytes())):
            members[posixpath.normpath(member["fname"]).lstrip("/")] = member["data"]
    return members


def captions_of(image: str, members: dict[str, bytes]) -> tuple[str, ...]:
    """Returns the caption of an image, from its `.json` or else from its `.txt`."""
    stem = image.partition(".")[0]
    caption = json.loads(members.get(f"{stem}.json", b"{}")).get("caption")
    lines = [caption] if caption else members.get(f"{stem}.txt", b"").decode("utf-8-sig").split("\n")
    return tuple(line.strip() for line in lines if line.strip())


def test_stored_tar_indexes(tmp_path: Path, inputs: Inputs):
    """A corrupt index is written again."""
    path = img2dataset_shard(tmp_path / "a.tar", [(f"{n}", bytes([n]) * 300, f"{n}") for n in range(6)])
    expected = import_dataset(path, None, str(tmp_path)).table
    (stored,) = (tmp_path / INDEXES).iterdir()
    good, total = stored.read_bytes(), inputs("tar index")
    for changed in corrupted(good, total, seed=81):
        stored.write_bytes(changed)
        assert import_dataset(path, None, str(tmp_path)).table == expected
        assert stored.read_bytes() == good


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
    for name in LEARNING_SPLITS:
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


ROWS = 1_000_000
"""Rows of a large file, of which one is bad. The unit tier takes the first tenth."""


@pytest.mark.parametrize(
    "rows", [pytest.param(ROWS // 10, marks=pytest.mark.unit), pytest.param(ROWS, marks=pytest.mark.long)]
)
@pytest.mark.parametrize("format_", ["csv", "tsv", "jsonl", "parquet", "flickr", "karpathy", "coco"])
def test_one_bad_row_of_many_is_named(tmp_path: Path, format_: str, rows: int):
    """Five captions for each photo, one row for each, except in Karpathy's layout. Row `bad` is not valid."""
    bad = rows - 5
    path = tmp_path / f"d.{format_}"
    path.write_bytes(b"".join(large_file(format_, rows, bad)) if format_ != "parquet" else large_parquet(rows, bad))
    where = {"csv": f"line {bad + 1} has 1 values", "tsv": f"line {bad + 1} has 1 values", "jsonl": f"line {bad}: "}
    where |= {"flickr": f"line {bad} \\(", "karpathy": f"image {bad} \\(", "coco": f"annotation {bad} \\("}
    with pytest.raises(UserError, match=where.get(format_, f"row {bad} \\(")):
        dataset_rows(DatasetFiles((str(path),), format_))


def large_file(format_: str, rows: int, bad: int) -> Iterator[bytes]:
    """Yields the parts of a file with a bad row."""
    delimiter = {"csv": b",", "tsv": b"\t"}.get(format_, b"")
    head = {
        "csv": b"uri,caption\n",
        "tsv": b"uri\tcaption\n",
        "karpathy": b'{"images": [',
        "coco": b'{"annotations": [',
    }
    images = ", ".join(f'{{"id": {n}, "file_name": "{n}.jpg"}}' for n in range(rows // 5))
    tail = {"karpathy": b"{}]}", "coco": f'{{"image_id": 0, "caption": "x"}}], "images": [{images}]}}'.encode()}
    yield head.get(format_, b"")
    for row in range(1, rows + 1):
        photo = b"%d.jpg" % (row // 5 % (rows // 5))
        if format_ in ("csv", "tsv"):
            yield b"bad\n" if row == bad else photo + delimiter + b"a caption\n"
        elif format_ == "jsonl":
            yield b'{"uri": \n' if row == bad else b'{"uri": "%b", "caption": "a caption"}\n' % photo
        elif format_ == "flickr":
            yield b"bad\n" if row == bad else b"%b#%d\ta caption\n" % (photo, row % 5)
        elif format_ == "karpathy":
            yield b"{}," if row == bad else b'{"filename": "%d.jpg", "split": "val", "sentences": []},' % row
        else:
            yield b"{}," if row == bad else b'{"image_id": %d, "caption": "a caption"},' % (row // 5 % (rows // 5))
    yield tail.get(format_, b"")


def large_parquet(rows: int, bad: int) -> bytes:
    """Returns a file with a row whose image is null."""
    images = [f"{row // 5}.jpg" if row != bad else None for row in range(1, rows + 1)]
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table({"uri": images, "caption": ["a caption"] * rows}), sink)
    return sink.getvalue().to_pybytes()
