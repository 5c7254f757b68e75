"""The importer of the Karpathy format: right rows, and one clear line for everything else."""

import json
from pathlib import Path

import pytest
from PIL import Image

from infra.errors import UserError
from pipelines.datasets.importer import import_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "sub/c.jpg", "d.jpg"):
        Image.new("RGB", (8, 8)).save(photos / name)
    return photos


def test_rows_have_keys_splits_and_paths(folder: Path, karpathy):
    path = karpathy([("a.jpg", "train", ["one ", "two"]), ("b.jpg", "restval", ["x"])])
    document = json.loads(path.read_text())
    document["images"].append({"filepath": "sub", "filename": "c.jpg", "split": "test", "sentences": [{"raw": "deep"}]})
    document["images"].append({"filename": "d.jpg", "split": "gallery", "sentences": []})
    path.write_text(json.dumps(document))
    manifest = import_dataset(path, folder)
    assert [(p.key, p.source, p.split, p.captions) for p in manifest.photos()] == [
        ("a", "a.jpg", "train", ("one", "two")),
        ("b", "b.jpg", "train", ("x",)),
        ("c", "sub/c.jpg", "test", ("deep",)),
        ("d", "d.jpg", "gallery", ()),
    ]
    assert manifest.name == "tiny"
    assert manifest.root == str(folder)


def test_a_missing_folder_or_file_is_named(folder: Path, karpathy, tmp_path: Path):
    with pytest.raises(UserError, match="nowhere: no such photo folder"):
        import_dataset(karpathy([("a.jpg", "train", ["x"])]), tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"none\.json: no such file"):
        import_dataset(tmp_path / "none.json", folder)


@pytest.mark.parametrize("text", ["{not json", "[]", '{"images": 3}', "[" * 100_000])
def test_a_file_in_another_layout_is_refused(folder: Path, tmp_path: Path, text: str):
    path = tmp_path / "d.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"d\.json: (not readable as JSON|neither Karpathy nor COCO)") as caught:
        import_dataset(path, folder)
    assert "\n" not in str(caught.value)


GOOD = {"filename": "a.jpg", "split": "val", "sentences": [{"raw": "x"}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"filename": 7}, r"image 2 \(7\) is not in the Karpathy format"),
        ({"filename": None}, r"d\.json: image 2 \(''\): a photo's path"),
        ({"filename": "../a.jpg"}, r"d\.json: image 2 \('../a.jpg'\): a photo's path must stay below"),
        ({"filename": ""}, r"d\.json: image 2 \(''\): a photo's path"),
        ({"split": ["val"]}, r"image 2 \('b\.jpg'\): split is \['val'\]; write train, val or test"),
        ({"split": None}, r"image 2 \('b\.jpg'\): split is None; write train, val or test"),
        ({"split": "dew"}, r"image 2 \('b\.jpg'\): split is 'dew'; it must be one of train, val, test, gallery"),
        ({"sentences": None}, r"image 2 \('b\.jpg'\) is not in"),
        ({"sentences": "a dog"}, r"image 2 \('b\.jpg'\) is not in"),
        ({"sentences": [{"raw": None}]}, r"image 2 \('b\.jpg'\) is not in"),
        ({"sentences": [{"raw": ["a", "dog"]}]}, r"image 2 \('b\.jpg'\) is not in"),
        ({"sentences": [{}]}, r"image 2 \('b\.jpg'\) is not in .*'raw'"),
        ({"sentences": [{"raw": "a \ud800"}]}, "not valid Unicode"),
        ({"filename": "a.jpg"}, r"d\.json: image 2: a\.jpg is listed twice; remove"),
    ],
)
def test_an_invalid_image_entry_is_named(folder: Path, tmp_path: Path, change: dict, message: str):
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"images": [GOOD, {**GOOD, "filename": "b.jpg", **change}]}))
    with pytest.raises(UserError, match=message) as caught:
        import_dataset(path, folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["filename", "split", "sentences", "raw", "images"])
def test_a_field_that_occurs_twice_is_an_error(folder: Path, tmp_path: Path, field: str):
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"images": [GOOD]}).replace(f'"{field}":', f'"{field}": "other", "{field}":'))
    with pytest.raises(UserError, match=rf"d\.json: not readable as JSON \(an object has `{field}` twice\)"):
        import_dataset(path, folder)
    path.write_text(json.dumps({"images": [GOOD]}).replace("{", '{"note": 1, "note": 2, '))
    assert import_dataset(path, folder).table.num_rows == 1


def test_a_byte_order_mark_is_accepted(folder: Path, tmp_path: Path):
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"images": [GOOD]}), encoding="utf-8-sig")
    assert import_dataset(path, folder).table.num_rows == 1


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/hostname"])
def test_path_traversal_is_refused(folder: Path, karpathy, name: str):
    with pytest.raises(UserError, match="must stay below the photo root"):
        import_dataset(karpathy([(name, "train", ["x"])]), folder)
