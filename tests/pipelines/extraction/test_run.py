"""Extraction on a real Ray cluster with the real detector: nothing lost, nothing twice, the same bytes again."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from infra.errors import UserError
from infra.storage.folder import FolderStore
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.detectors import registry
from pipelines.features.feature_set import FeatureSet, write_index
from pipelines.features.shards import build_tar, read_receipts
from tests.support.extractions import PHOTOS, contents, manifest_of, run, shard, write_photos

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return manifest_of(write_photos(tmp_path_factory.mktemp("module") / "photos"))


@pytest.fixture(scope="module")
def whole(ray_session: None, tmp_path_factory: pytest.TempPathFactory, manifest: Manifest) -> FeatureSet:
    """An undisturbed extraction, which tests only read."""
    extraction, counted = run(manifest, tmp_path_factory.mktemp("whole"))
    assert (len(extraction.written), extraction.shards_reused, sum(counted)) == (4, 0, 6)
    return extraction.feature_set


def test_counts_in_are_counts_out(whole: FeatureSet):
    written = [key for split in ("train", "val", "test") for key in whole.split(split).keys]
    assert sorted(written) == sorted(PHOTOS)
    reasons = {"cut.jpg": "image data is truncated or corrupt", "text.jpg": "not an image of a known format"}
    assert {row.source: row.reason for row in whole.rejected} == reasons
    report = pq.read_table(Path(whole.uri) / "quarantine.parquet").to_pylist()
    assert {row["source"]: row["reason"] for row in report} == reasons
    assert {row["split"] for row in report} == {"train", "test"}


def test_a_rerun_writes_nothing(manifest: Manifest, whole: FeatureSet):
    folder = Path(whole.uri)
    before = contents(folder)
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again, counted = run(manifest, folder.parents[1])
    assert (len(again.written), again.shards_reused, again.photos_detected, sum(counted)) == (0, 4, 0, 6)
    assert contents(folder) == before
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps


def test_what_a_killed_run_left_is_completed_to_the_same_bytes(tmp_path: Path, manifest: Manifest, whole: FeatureSet):
    """Every state that a kill can leave: no index; a shard without receipt; a shard missing; a half-written file."""
    broken = tmp_path / "features" / Path(whole.uri).name
    shutil.copytree(whole.uri, broken)
    (broken / "index.json").unlink()
    train, val = shard(whole, "features-train-000000"), shard(whole, "features-val-000000")
    (broken / f"{train}.receipt.json").unlink()
    (broken / f"{val}.receipt.json").unlink()
    (broken / f"{val}.tar").unlink()
    (broken / f".{val}.tar.dead").write_bytes(b"half")
    with pytest.raises(UserError, match="no finished feature set here"):
        FeatureSet.open(str(broken))
    extraction, _ = run(manifest, tmp_path)
    assert (len(extraction.written), extraction.shards_reused) == (2, 2)
    (broken / f".{val}.tar.dead").unlink()
    assert contents(broken) == contents(whole.uri)


def test_a_tar_that_was_lost_is_written_again(tmp_path: Path, manifest: Manifest, whole: FeatureSet):
    copy = tmp_path / "features" / Path(whole.uri).name
    shutil.copytree(whole.uri, copy)
    (copy / f"{shard(whole, 'features-val')}.tar").unlink()
    assert len(run(manifest, tmp_path)[0].written) == 1
    assert contents(copy) == contents(whole.uri)


def test_features_are_the_detectors_own_and_boxes_fit_the_photo(manifest: Manifest, whole: FeatureSet):
    split = whole.split("val")
    pixels = np.asarray(Image.open(Path(manifest.root) / "astronaut.jpg").convert("RGB"))
    (expected,) = registry.resolve("embedded").build("cpu")([pixels])
    # The actor runs on one thread, this process on more: sums of floats differ in the last bits.
    np.testing.assert_allclose(split[[0]][0].astype(np.float32), expected.features, atol=2e-3)
    np.testing.assert_allclose(split.boxes(0), expected.boxes, atol=0.02)
    meta = split.meta[0]
    assert (meta["height"], meta["width"], meta["captions"]) == (120, 160, ["a astronaut", "astronaut!"])
    assert meta["classes"] == expected.classes.tolist()
    assert whole.index["detector"]["class_names"]["1"] == "person"


def test_lineage_names_each_parent(manifest: Manifest, whole: FeatureSet):
    assert whole.lineage["manifest"] == manifest.digest()
    assert whole.lineage["fingerprint"] == registry.resolve("embedded").fingerprint()
    stored = (Path(whole.uri) / f"manifest-{manifest.digest()[:12]}.parquet").read_bytes()
    assert Manifest.from_parquet(stored, "stored").digest() == manifest.digest()
    sizes = json.loads((Path(whole.uri) / "sizes.json").read_text())
    assert sum(sizes.values()) == 4


def test_a_lost_photo_is_noticed(tmp_path: Path, manifest: Manifest, whole: FeatureSet):
    """planned = written + rejected, or the job fails: here a receipt is made to forget a photo."""
    copy = tmp_path / Path(whole.uri).name
    shutil.copytree(whole.uri, copy)
    receipt = copy / f"{shard(whole, 'features-val')}.receipt.json"
    document = json.loads(receipt.read_text())
    receipt.write_text(json.dumps(document | {"written": [], "count": 0}))
    receipts = read_receipts(FolderStore(copy), [row["name"] for row in whole.index["shards"]])
    with pytest.raises(RuntimeError, match="planned 6 photos, written 3, rejected 2"):
        write_index(FolderStore(copy), manifest, "f", {}, list(receipts.values()))


def test_an_output_that_cannot_be_written_is_said_before_any_work(tmp_path: Path, manifest: Manifest):
    (tmp_path / "features").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot be written .*; choose another extract\.output"):
        run(manifest, tmp_path)


def test_too_many_rejected_photos_fail_the_job_and_are_reported(tmp_path: Path, manifest: Manifest):
    with pytest.raises(
        UserError, match=r"of 6 photos are rejected, more than extract.max_rejected \(0.1 of them\): 1 x"
    ):
        run(manifest, tmp_path, max_rejected=0.1)
    (folder,) = (tmp_path / "features").iterdir()
    assert len(pq.read_table(folder / "quarantine-over-cap.parquet")) >= 1
    assert not (folder / "index.json").exists()
    # Nothing that was done is lost: with the cap raised the rest follows.
    extraction, _ = run(manifest, tmp_path)
    assert extraction.shards_reused >= 1
    assert len(extraction.feature_set.rejected) == 2


def test_a_data_set_without_one_usable_photo_fails_with_the_reason(tmp_path: Path):
    (tmp_path / "a.jpg").write_text("text")
    manifest = Manifest.build("tiny", str(tmp_path), [Photo("a", "a.jpg", "train", ("x",))])
    with pytest.raises(UserError, match=r"all 1 photos were rejected, first a\.jpg: not an image"):
        run(manifest, tmp_path)


def test_a_tar_of_other_photos_without_receipt_is_left_and_gone_round(
    tmp_path: Path, manifest: Manifest, whole: FeatureSet
):
    """A killed run wrote it, and since then the photo's file was replaced: its name is taken, so another is used."""
    left = tmp_path / "features" / Path(whole.uri).name / f"{shard(whole, 'features-val')}.tar"
    left.parent.mkdir(parents=True)
    left.write_bytes(build_tar([]))
    extraction, _ = run(manifest, tmp_path)
    assert shard(extraction.feature_set, "features-val") != left.stem
    assert extraction.feature_set.split("val").keys == whole.split("val").keys
    again, _ = run(manifest, tmp_path)
    assert (again.written, again.feature_set.index) == ((), extraction.feature_set.index)


def test_a_store_that_breaks_off_is_one_line(tmp_path: Path, manifest: Manifest, whole: FeatureSet):
    left = tmp_path / "features" / Path(whole.uri).name
    (left / f"{shard(whole, 'features-val')}.tar").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        run(manifest, tmp_path)
    said = re.fullmatch(r"(.*); what is written stays, the same command goes on", str(caught.value))
    assert said
    assert re.search(r"directory.*\.tar'$", said[1])
    assert "Failed to apply" not in said[1]  # Ray's advice


def test_other_settings_write_a_feature_set_beside_the_old_one(tmp_path: Path, manifest: Manifest, whole: FeatureSet):
    copy = tmp_path / "features" / Path(whole.uri).name
    shutil.copytree(whole.uri, copy)
    other, _ = run(manifest, tmp_path, detector_settings={"nms_iou": 0.5})
    assert other.feature_set.uri != str(copy)
    assert contents(copy) == contents(whole.uri)
    assert other.feature_set.lineage["fingerprint"] != whole.lineage["fingerprint"]
