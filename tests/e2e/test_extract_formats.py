"""Real photos in the formats in which people have them: the command extracts each photo with its captions and split."""

import json
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from pipelines.features.feature_set import FeatureSet
from tests.support.commands import run_here
from tests.support.extractions import TINY, save
from tests.support.webdataset_tars import img2dataset_shard

NAMES = ("astronaut", "brick", "camera", "cat", "coffee", "grass", "moon", "rocket")
"""Photos of scikit-image, in colour and in grey."""
Expected = Mapping[str, tuple[str, tuple[str, ...]]]
"""Split and captions of every photo, by the sha256 of its file."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Returns eight JPEGs."""
    folder = tmp_path_factory.mktemp("jpegs")
    for name in NAMES:
        save(name, folder / f"{name}.jpg")
    return [(folder / f"{name}.jpg").read_bytes() for name in NAMES]


def coco(folder: Path, photos: list[bytes]) -> tuple[list[str], Expected]:
    """Writes two captions files with their folders. Two captions a photo, not adjacent; the last photo has none."""
    files, expected = [], {}
    for split, some in (("train", photos[:5]), ("val", photos[5:])):
        images, said = [], {}
        for number, data in enumerate(some, 1):
            name = f"{number:012d}.jpg"
            path = folder / f"{split}2017" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            url = f"http://images.cocodataset.org/{split}2017/{name}"
            images.append({"license": 1, "file_name": name, "coco_url": url, "id": number})
            said[number] = () if data == photos[-1] else (f"a photo, {split} {number}", f"the second of {number}.")
            expected[sha256(data).hexdigest()] = (split, said[number])
        annotations = [
            {"image_id": image, "id": 10 * image + n, "caption": captions[n]}
            for n in range(2)
            for image, captions in said.items()
            if captions
        ]
        document = {"info": {"year": 2017}, "images": images, "annotations": annotations}
        path = folder / f"captions_{split}2017.json"
        path.write_text(json.dumps(document))
        files.append(f"{split}={path}")
    return [*files, f"--photos={folder}"], expected


def plain_folder(folder: Path, photos: list[bytes]) -> tuple[list[str], Expected]:
    """Writes photos without captions in nested folders, two with the same file name, beside a text file."""
    names = ["a.jpg", "b/a.jpg", "b/c/写真.JPG", "b/50% #1.jpeg", *(f"{n}.jpg" for n in range(4))]
    for name, data in zip(names, photos, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "b" / "notes.txt").write_text("no image")
    return [str(folder)], {sha256(data).hexdigest(): ("gallery", ()) for data in photos}


def webdataset(folder: Path, photos: list[bytes]) -> tuple[list[str], Expected]:
    """Writes two tars by webdataset.TarWriter. The last photo has no caption."""
    expected = {}
    for tar, some in enumerate((photos[:5], photos[5:])):
        captions = ["" if data == photos[-1] else f"photo {n} of tar {tar}" for n, data in enumerate(some)]
        samples = [(f"{tar:05d}{n:04d}", data, captions[n]) for n, data in enumerate(some)]
        img2dataset_shard(folder / f"{tar:05d}.tar", samples)
        for data, caption in zip(some, captions, strict=True):
            expected[sha256(data).hexdigest()] = ("train", (caption,)) if caption else ("gallery", ())
    return [f"{folder}/{{00000..00001}}.tar"], expected


@pytest.mark.parametrize(
    "write",
    [pytest.param(coco, marks=pytest.mark.long), pytest.param(plain_folder, marks=pytest.mark.long), webdataset],
)
def test_every_photo_is_extracted_with_its_captions_and_split(
    ray_session: None,
    tmp_path: Path,
    photos: list[bytes],
    write: Callable[[Path, list[bytes]], tuple[list[str], Expected]],
):
    (tmp_path / "data").mkdir()
    dataset, expected = write(tmp_path / "data", photos)
    job = ["--dataset", *dataset, f"--extract.output={tmp_path}/features", f"--extract.detector={TINY}"]
    job += ["--extract.photos_per_shard=3", "--extract.min_detector_actors=1", "--extract.max_detector_actors=1"]
    output = run_here(tmp_path, "jobs.extract", *job)
    assert "8 photos planned = 8 written + 0 rejected" in output
    verified = run_here(tmp_path, "jobs.features", "verify", output.split()[0])
    assert re.search(r": intact\n .* 8 photos written \+ 0 rejected", verified)
    features, found = FeatureSet.open(output.split()[0]), {}
    for name in {shard.split for shard in features.index.shards}:
        split = features.split(name)
        captions = [tuple(meta["captions"]) for meta in split.meta]
        assert captions == split.captions_of_photos
        found |= {meta["sha256"]: (name, said) for meta, said in zip(split.meta, captions, strict=True)}
    assert found == expected
