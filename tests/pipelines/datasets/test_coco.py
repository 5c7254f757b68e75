"""Tests of COCO captions JSON, with the fields of the files that cocodataset.org publishes."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.errors import UserError
from pipelines.datasets.importer import DatasetFiles, import_dataset


def document(split: str, *images: int) -> dict[str, Any]:
    """Returns a document with two captions per image, the second ones after all first ones."""
    info = {"description": "COCO 2017 Dataset", "url": "http://cocodataset.org", "version": "1.0", "year": 2017}
    licenses = [{"url": "http://creativecommons.org/licenses/by-nc-sa/2.0/", "id": 1, "name": "Attribution"}]
    entries = [
        {
            "license": 1,
            "file_name": f"{image:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/{split}2017/{image:012d}.jpg",
            "height": 427,
            "width": 640,
            "date_captured": "2013-11-14 11:18:45",
            "flickr_url": f"http://farm9.staticflickr.com/8186/{image}_z.jpg",
            "id": image,
        }
        for image in images
    ]
    captions = [(image, n) for n in (1, 2) for image in images]
    annotations = [{"image_id": i, "id": 10 * i + n, "caption": f"{n} a dog on {i}. \n"} for i, n in captions]
    return {"info": info, "licenses": licenses, "images": entries, "annotations": annotations}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """The folder that unpacking COCO's archives gives."""
    for split, images in (("train", (9, 25)), ("val", (139,))):
        (tmp_path / f"{split}2017").mkdir()
        for image in images:
            (tmp_path / f"{split}2017" / f"{image:012d}.jpg").write_bytes(b"x")
        text = json.dumps(document(split, *images))
        (tmp_path / f"captions_{split}2017.json").write_text(text)
    return tmp_path


def test_several_files_have_their_splits_and_folders(coco: Path):
    files = [f"{split}={coco}/captions_{split}2017.json" for split in ("train", "val")]
    manifest = import_dataset(DatasetFiles(tuple(files)), coco)
    assert [(p.key, p.source, p.split, p.captions) for p in manifest.photos()] == [
        ("000000000009", "train2017/000000000009.jpg", "train", ("1 a dog on 9.", "2 a dog on 9.")),
        ("000000000025", "train2017/000000000025.jpg", "train", ("1 a dog on 25.", "2 a dog on 25.")),
        ("000000000139", "val2017/000000000139.jpg", "val", ("1 a dog on 139.", "2 a dog on 139.")),
    ]
    assert manifest.name == "captions_train2017"


def test_names_of_files_state_their_splits(coco: Path, capsys: pytest.CaptureFixture[str]):
    names = (str(coco / f"captions_{split}2017.json") for split in ("train", "val"))
    manifest = import_dataset(DatasetFiles(tuple(names)), coco)
    assert [photo.split for photo in manifest.photos()] == ["train", "train", "val"]
    printed = capsys.readouterr().err
    assert all(
        f"{split}2017.json: all photos are in {split}, as its name states" in printed for split in ("train", "val")
    )
    manifest = import_dataset(f"gallery={coco}/captions_val2017.json", coco)
    assert [photo.split for photo in manifest.photos()] == ["gallery"]
    assert capsys.readouterr().err == ""
    for name in ("captions_trainval2017.json", "latest.json", "train_and_val.json"):
        (coco / name).write_bytes((coco / "captions_val2017.json").read_bytes())
        manifest = import_dataset(str(coco / name), coco)
        assert [photo.split for photo in manifest.photos()] == ["train"], name


def test_images_of_a_merged_file_are_in_their_folders(coco: Path):
    """Also if the first image of a folder does not exist."""
    train, val = document("train", 9, 25), document("val", 139)
    merged = {name: [*train[name], *val[name]] for name in ("images", "annotations")}
    (coco / "merged.json").write_text(json.dumps(merged))
    (coco / "train2017" / "000000000009.jpg").unlink()
    manifest = import_dataset(str(coco / "merged.json"), coco)
    assert [photo.source for photo in manifest.photos()] == [
        "train2017/000000000009.jpg",
        "train2017/000000000025.jpg",
        "val2017/000000000139.jpg",
    ]


def test_the_photo_root_may_be_the_folder_of_one_split(coco: Path):
    manifest = import_dataset(f"validation={coco}/captions_val2017.json", coco / "val2017")
    assert [(photo.source, photo.split) for photo in manifest.photos()] == [("000000000139.jpg", "val")]


@pytest.mark.parametrize("more", [{}, {"coco_url": "http://]/val2017/000000000139.jpg"}, {"coco_url": 1}])
def test_files_without_a_name_for_the_folder_are_read(coco: Path, more: dict[str, Any]):
    """As many tools write them."""
    changed = document("val", 139)
    changed["images"] = [{"id": 139, "file_name": "000000000139.jpg", **more}]
    (coco / "mine.json").write_text(json.dumps(changed, indent=2))
    manifest = import_dataset(coco / "mine.json", coco / "val2017")
    assert next(manifest.photos()).split == "train"


def edited(field: str, value: Any, where: str = "images") -> dict[str, Any]:
    changed = document("val", 139, 140)
    changed[where][1][field] = value
    return changed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (edited("id", "140"), "image 2 .* needs an integer `id` and a text `file_name`"),
        (edited("id", True), "image 2 .* needs an integer `id`"),
        (edited("id", 139), "image 2 has the id 139 of an earlier one"),
        (edited("file_name", None), "image 2 .* needs an integer `id` and a text `file_name`"),
        (edited("file_name", "http://host/a.jpg"), "image 2 .* needs an integer `id`"),
        (edited("file_name", "../a.jpg"), "image 2 .*must stay below the photo root"),
        (edited("file_name", f"{139:012d}.jpg"), "image 2: 000000000139.jpg is listed twice"),
        (edited("caption", 3, "annotations"), "annotation 2 .* needs an `image_id` and a text `caption`"),
        (edited("image_id", 7, "annotations"), "1 images of annotations are not in `images`, first id 7"),
        (edited("image_id", [7], "annotations"), r"annotation 2 has the image_id \[7\]"),
        ({**document("val", 139), "annotations": {}}, "`annotations` is not a list"),
        (
            {**document("val", 139), "annotations": [{"bbox": [0, 0, 1, 1], "image_id": 139}]},
            r"COCO's captions_\*.json",
        ),
        ({**document("val", 139), "images": []}, "1 images of annotations are not in `images`"),
    ],
)
def test_an_invalid_entry_is_named(tmp_path: Path, changed: dict[str, Any], message: str):
    for image in (139, 140):
        (tmp_path / f"{image:012d}.jpg").write_bytes(b"x")
    (tmp_path / "d.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match=message) as caught:
        import_dataset(tmp_path / "d.json", tmp_path)
    assert "\n" not in str(caught.value)


def test_two_different_splits_for_a_file_are_refused(coco: Path):
    files = (f"train={coco}/captions_val2017.json", f"val={coco}/captions_val2017.json")
    with pytest.raises(UserError, match=r"image 1: 000000000139\.jpg is listed twice"):
        import_dataset(DatasetFiles(files), coco / "val2017")
