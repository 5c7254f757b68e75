"""The importer of the Karpathy layout: right rows, and one clear line for everything else."""

import json
from pathlib import Path

import pytest
from PIL import Image

from infra.errors import UserError
from pipelines.karpathy import import_karpathy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
        Image.new("RGB", (8, 8)).save(photos / name)
    return photos


def test_rows_splits_and_paths(folder: Path, karpathy):
    path = karpathy([("a.jpg", "train", ["one ", "two"]), ("b.jpg", "restval", ["x"])])
    document = json.loads(path.read_text())
    document["images"].append({"filepath": "sub", "filename": "c.jpg", "split": "test", "sentences": [{"raw": "deep"}]})
    path.write_text(json.dumps(document))
    manifest = import_karpathy(path, folder)
    assert [(p.key, p.source, p.split, p.captions) for p in manifest.photos()] == [
        ("a", "a.jpg", "train", ("one", "two")),
        ("b", "b.jpg", "train", ("x",)),
        ("c", "sub/c.jpg", "test", ("deep",)),
    ]
    assert manifest.name == "tiny"
    assert manifest.root == str(folder)


def test_captions_for_photos_that_are_not_there(folder: Path, karpathy):
    path = karpathy([("a.jpg", "train", ["x"]), ("gone.jpg", "val", ["y"]), ("lost.jpg", "val", ["z"])])
    with pytest.raises(UserError, match=r"2 of 3 photos .* are not there, first gone\.jpg; pass the right folder"):
        import_karpathy(path, folder)


def test_missing_folder_and_file(folder: Path, karpathy, tmp_path: Path):
    with pytest.raises(UserError, match="nowhere: no such photo folder"):
        import_karpathy(karpathy([("a.jpg", "train", ["x"])]), tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"none\.json: no such file"):
        import_karpathy(tmp_path / "none.json", folder)


@pytest.mark.parametrize(
    "text",
    [
        "{not json",
        "[]",
        "{}",
        '{"images": 3}',
        '{"images": [{"filename": "a.jpg"}]}',
        '{"images": ["a.jpg"]}',
        '{"images": [{"filename": "a.jpg", "split": "val", "sentences": [{"raw": null}]}]}',
        '{"images": [{"filename": 7, "split": "val", "sentences": [{"raw": "x"}]}]}',
        '{"images": [{"filename": "a.jpg", "split": ["val"], "sentences": [{"raw": "x"}]}]}',
        '{"images": [{"filename": "a.jpg", "split": "val", "sentences": null}]}',
        '{"images": [{"filename": "a.jpg", "split": "val", "sentences": ["x"]}]}',
    ],
)
def test_a_file_that_is_not_in_the_layout(folder: Path, tmp_path: Path, text: str):
    path = tmp_path / "d.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"d\.json: not (readable as JSON|in the Karpathy layout)") as caught:
        import_karpathy(path, folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/hostname"])
def test_paths_that_leave_the_folder_are_refused(folder: Path, karpathy, name: str):
    with pytest.raises(UserError, match="must stay below the photo folder"):
        import_karpathy(karpathy([(name, "train", ["x"])]), folder)
