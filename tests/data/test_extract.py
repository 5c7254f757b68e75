"""Extraction on a real Ray cluster with the real detector: nothing lost, nothing twice, the same bytes again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.store import FolderStore
from pipelines.detectors import registry
from pipelines.extract import ExtractConfig, extract
from pipelines.feature_set import FeatureSet, write_index
from pipelines.manifest import Manifest, Photo
from pipelines.plan import plan_feature_set

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

PHOTOS = {"chelsea": "train", "coffee": "train", "astronaut": "val", "rocket": "test"}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Four real photos, one cut in half and one that is text."""
    folder = tmp_path_factory.mktemp("photos")
    for name in PHOTOS:
        Image.fromarray(getattr(skimage.data, name)()).resize((160, 120)).save(folder / f"{name}.jpg")
    whole = (folder / "chelsea.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no photo")
    rows = [Photo(name, f"{name}.jpg", split, (f"a {name}", f"{name}!")) for name, split in PHOTOS.items()]
    rows += [Photo("cut", "cut.jpg", "train", ("cut",)), Photo("text", "text.jpg", "test", ("text",))]
    return Manifest.build("tiny", str(folder), rows)


@pytest.fixture(scope="module")
def whole(ray_session: None, tmp_path_factory: pytest.TempPathFactory, manifest: Manifest) -> FeatureSet:
    """An undisturbed extraction, which tests only read."""
    extraction, counted = run(manifest, config(tmp_path_factory.mktemp("whole")))
    assert (extraction.shards_written, extraction.shards_reused, sum(counted)) == (4, 0, 6)
    return extraction.feature_set


def config(tmp_path: Path) -> ExtractConfig:
    return ExtractConfig(output=str(tmp_path / "features"), photos_per_shard=2, photos_per_batch=2, detector_actors=2)


def run(manifest: Manifest, settings: ExtractConfig) -> tuple:
    counted: list[int] = []
    extraction = extract(manifest, settings, ClusterConfig(), counted.append)
    return extraction, counted


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_counts_in_are_counts_out(whole: FeatureSet):
    written = [key for split in ("train", "val", "test") for key in whole.split(split).keys]
    assert sorted(written) == sorted(PHOTOS)
    assert {row.source: row.reason for row in whole.rejected} == {
        "cut.jpg": "image data is truncated or corrupt",
        "text.jpg": "not an image of a known format",
    }


def test_a_rerun_writes_nothing(manifest: Manifest, whole: FeatureSet):
    folder = Path(whole.uri)
    before = contents(folder)
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again, counted = run(manifest, config(folder.parents[1]))
    assert (again.shards_written, again.shards_reused, sum(counted)) == (0, 4, 6)
    assert contents(folder) == before
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps


def test_what_a_killed_run_left_is_completed_to_the_same_bytes(tmp_path: Path, manifest: Manifest, whole: FeatureSet):
    """Every state that a kill can leave: no index; a shard without receipt; a shard missing; a half-written file."""
    broken = tmp_path / "features" / Path(whole.uri).name
    shutil.copytree(whole.uri, broken)
    (broken / "index.json").unlink()
    (broken / "features-train-000000.receipt.json").unlink()
    (broken / "features-val-000000.receipt.json").unlink()
    (broken / "features-val-000000.tar").unlink()
    (broken / ".features-val-000000.tar.dead").write_bytes(b"half")
    with pytest.raises(UserError, match="no finished feature set here"):
        FeatureSet.open(str(broken))
    extraction, _ = run(manifest, config(tmp_path))
    assert (extraction.shards_written, extraction.shards_reused) == (2, 2)
    (broken / ".features-val-000000.tar.dead").unlink()
    assert contents(broken) == contents(Path(whole.uri))


def test_features_are_the_detectors_own_and_boxes_fit_the_photo(manifest: Manifest, whole: FeatureSet):
    split = whole.split("val")
    pixels = np.asarray(Image.open(Path(manifest.root) / "astronaut.jpg").convert("RGB"))
    (expected,) = registry.build("embedded")([pixels])
    # The actor runs on one thread, this process on more: sums of floats differ in the last bits.
    np.testing.assert_allclose(split[[0]][0].astype(np.float32), expected.features, atol=2e-3)
    np.testing.assert_allclose(split.boxes(0), expected.boxes, atol=0.02)
    meta = split.meta[0]
    assert (meta["height"], meta["width"], meta["captions"]) == (120, 160, ["a astronaut", "astronaut!"])
    assert meta["classes"] == expected.classes.tolist()
    assert whole.index["detector"]["class_names"]["1"] == "person"


def test_lineage_names_each_parent(manifest: Manifest, whole: FeatureSet):
    assert whole.lineage["manifest"] == manifest.digest()
    assert whole.lineage["fingerprint"] == registry.fingerprint("embedded")
    stored = Manifest.from_parquet((Path(whole.uri) / "manifest.parquet").read_bytes(), "stored")
    assert stored.digest() == manifest.digest()
    sizes = json.loads((Path(whole.uri) / "sizes.json").read_text())
    assert sum(sizes.values()) == 4


def test_a_lost_photo_is_noticed(tmp_path: Path, manifest: Manifest, whole: FeatureSet):
    """planned = written + rejected, or the job fails: here a receipt is made to forget a photo."""
    copy = tmp_path / Path(whole.uri).name
    shutil.copytree(whole.uri, copy)
    receipt = copy / "features-val-000000.receipt.json"
    document = json.loads(receipt.read_text())
    document |= {"keys": [], "offsets": [], "count": 0}
    receipt.write_text(json.dumps(document))
    plan = plan_feature_set(manifest, registry.fingerprint("embedded"), 2)
    with pytest.raises(RuntimeError, match="planned 6 photos, written 3, rejected 2"):
        write_index(FolderStore(copy), plan, manifest, {})


def test_an_output_that_cannot_be_written_is_said_before_any_work(tmp_path: Path, manifest: Manifest):
    (tmp_path / "features").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot be written .*; choose another extract\.output"):
        run(manifest, config(tmp_path))


def test_a_data_set_without_one_usable_photo_fails_with_the_reason(tmp_path: Path):
    (tmp_path / "a.jpg").write_text("text")
    manifest = Manifest.build("tiny", str(tmp_path), [Photo("a", "a.jpg", "train", ("x",))])
    with pytest.raises(UserError, match=r"all 1 photos were rejected, first a\.jpg: not an image"):
        run(manifest, config(tmp_path))
