"""Tests of the generated files: reproducible bytes, a reused or completed folder, and the refusal of others."""

import hashlib
import json
import os
import struct
import subprocess
import sys
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from infra.errors import UserError
from pipelines.datasets.scenes import generate as generate_module
from pipelines.datasets.scenes.generate import generate
from tests.support import ROOT
from tests.support.caption_reader import bag, is_true, read
from tests.support.small_scenes import SMALL, digests

PINNED = {"dataset_scenes.json": "eb0ed4b933e2bf3d", "objects.json": "ec0a3b51495071ec", "photos": "cc5aa57e29982760"}
"""First 16 hex digits of the sha256 of the generated files."""


def test_a_complete_folder_is_reused(small, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    monkeypatch.setattr(generate_module, "draw_dataset", lambda config: pytest.fail("drawn again"))
    done = []
    assert generate(SMALL, small, done.append) == small / "dataset_scenes.json"
    assert sum(done) == 26
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


@pytest.mark.parametrize("lost", [["dataset_scenes.json"], ["objects.json"], []])
def test_an_incomplete_folder_is_completed_to_the_same_bytes(small, tmp_path, lost):
    generate(SMALL, tmp_path)
    gone = [tmp_path / "photos" / name for name in ("test_00000.png", "train_00003.png")]
    for path in [tmp_path / name for name in lost] + gone:
        path.unlink()
    kept = tmp_path / "photos" / "val_00000.png"
    before = kept.stat().st_mtime_ns
    generate(SMALL, tmp_path)
    assert digests(tmp_path) == digests(small)
    assert kept.stat().st_mtime_ns == before


def test_killed_generation_leaves_no_partial_files(small, tmp_path):
    def stop(_):
        if len(list((tmp_path / "photos").glob("*.png"))) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(SMALL, tmp_path, stop)
    assert not (tmp_path / "dataset_scenes.json").exists()
    expected = digests(small)
    assert all(expected[name] == digest for name, digest in digests(tmp_path).items())
    generate(SMALL, tmp_path)
    assert digests(tmp_path) == expected


def test_an_interrupted_write_leaves_no_photo(small, tmp_path, monkeypatch):
    save = Image.Image.save

    def interrupted(image, path, *args, **settings):
        if "val_00002" in str(path):
            Path(path).write_bytes(b"half a photo")
            raise OSError("disk full")
        save(image, path, *args, **settings)

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(OSError, match="disk full"):
        generate(SMALL, tmp_path)
    monkeypatch.undo()
    generate(SMALL, tmp_path)
    assert digests(tmp_path / "photos", "*.png") == digests(small / "photos", "*.png")


def test_a_folder_with_other_settings_is_refused_and_not_changed(small):
    before = digests(small)
    with pytest.raises(UserError, match=r"scenes of other settings.*choose another folder"):
        generate(replace(SMALL, seed=9), small)
    assert digests(small) == before


def test_a_folder_with_foreign_files_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="choose an empty folder"):
        generate(SMALL, tmp_path)


@pytest.mark.parametrize("name", ["config.json", "dataset_scenes.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": ', b"\xff"])
def test_a_folder_with_a_corrupt_file_is_refused(small, tmp_path, name, content):
    (tmp_path / "config.json").write_bytes((small / "config.json").read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{tmp_path / name} is corrupt .*; delete its folder, then re-run"):
        generate(SMALL, tmp_path)


def test_another_hash_seed_gives_the_same_bytes(small, tmp_path):
    script = (
        "import sys; from pathlib import Path; from pipelines.datasets.scenes.generate import ScenesConfig, generate;"
        "generate(ScenesConfig(train=12, val=6, test=8, seed=3), Path(sys.argv[1]))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "again")], check=True, env=env, cwd=tmp_path)
    assert digests(tmp_path / "again") == digests(small)


def test_generated_files_match_the_pinned_digests(small):
    """If this fails on purpose, raise config.VERSION, so that existing folders are not reused."""
    found = digests(small)
    photos = "".join(found[name] for name in sorted(found) if name.endswith(".png"))
    found["photos"] = hashlib.sha256(photos.encode()).hexdigest()
    assert {name: found[name][:16] for name in PINNED} == PINNED


def test_photos_are_compressed_to_the_same_bytes_by_any_zlib(small):
    """Pillow's zlib and Python's may be different builds; with the chosen strategy they agree on every byte."""
    for path in (small / "photos").iterdir():
        packed = image_data(path.read_bytes())
        again = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
        assert again.compress(zlib.decompress(packed)) + again.flush() == packed


def test_the_karpathy_json_agrees_with_the_ground_truth(small):
    dataset = json.loads((small / "dataset_scenes.json").read_text())
    photos = json.loads((small / "objects.json").read_text())["photos"]
    assert dataset["dataset"] == "scenes"
    assert Counter(image["split"] for image in dataset["images"]) == {"train": 12, "val": 6, "test": 8}
    assert [s for image in dataset["images"] for s in image["sentids"]] == list(range(26 * 5))
    for imgid, image in enumerate(dataset["images"]):
        assert image["imgid"] == imgid
        with Image.open(small / "photos" / image["filename"]) as photo:
            assert (photo.size, photo.mode, photo.format) == ((320, 240), "RGB", "PNG")
        for sentid, sentence in zip(image["sentids"], image["sentences"], strict=True):
            assert (sentence["imgid"], sentence["sentid"]) == (imgid, sentid)
            assert Counter(sentence["tokens"]) == bag(sentence["raw"])
            assert is_true(read(sentence["raw"]), photos[image["filename"]])
    assert set(photos) == {image["filename"] for image in dataset["images"]}
    assert {photo["counterpart"] for photo in photos.values()} - {None} <= set(photos)


def image_data(png):
    """Returns the concatenated IDAT chunks of a PNG file."""
    at, data = 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    return data
