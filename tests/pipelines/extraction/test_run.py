"""Extraction on a local Ray cluster: every photo once, reproducible bytes, resumable.

It runs the operators in `pipelines.extraction.ray_graph` and accounts for them in `pipelines.extraction.ledger`.
"""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image

from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.failures import OBJECT, Failure
from infra.metrics import ACCOUNTED_PHOTOS, PLAN_PHOTOS
from infra.storage.folder import FolderStore
from infra.storage.open import open_store
from infra.storage.replacement import Replacement
from pipelines.datasets.locate_photos import locate_photos
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.detectors import registry
from pipelines.extraction.run import plan_extraction
from pipelines.features.account import Account
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import INDEX
from pipelines.features.publish import publish
from pipelines.features.receipt import read_receipts
from pipelines.features.shards import build_tar
from tests.support.extractions import PHOTOS, config, contents, manifest_of, run, shard, write_photos
from tests.support.faulty_proxy import CONDITION_IGNORED, CONDITION_REFUSED, faulty_proxy
from tests.support.processes import wait_until
from tests.support.scrape import Scraped
from tests.support.servers import S3Server, aws_environment
from tests.support.tiny_detector import TinyDetector

pytestmark = pytest.mark.usefixtures("ray_session")


class Busy:
    """Takes CPUs."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return manifest_of(write_photos(tmp_path_factory.mktemp("module") / "photos"))


@pytest.fixture(scope="module")
def extracted(ray_session: None, tmp_path_factory: pytest.TempPathFactory, manifest: Manifest) -> FeatureSet:
    """An uninterrupted extraction, which tests only read."""
    extraction, counted = run(manifest, tmp_path_factory.mktemp("extracted"))
    assert (len(extraction.written), extraction.shards_reused, sum(counted)) == (4, 0, 6)
    return extraction.feature_set


@pytest.mark.long
def test_a_wait_for_resources_has_metrics(manifest: Manifest, tmp_path: Path):
    """An alert needs them. Another job has all CPUs until they are scraped."""
    other = ray.remote(Busy).options(num_cpus=4).remote()
    ray.get(other.__ray_ready__.remote())
    name = plan_extraction(manifest, config(tmp_path), ClusterConfig()).store.uri.rpartition("/")[2]
    with Scraped() as scraped, ThreadPoolExecutor() as pool:
        try:
            running = pool.submit(run, manifest, tmp_path)
            wait_until(lambda: scraped.count(ACCOUNTED_PHOTOS.exported, feature_set=name) == 1, 60)
            assert scraped.total(ACCOUNTED_PHOTOS.exported, feature_set=name) == 0
            assert scraped.total(PLAN_PHOTOS.exported, feature_set=name) == 6
        finally:
            ray.kill(other)
        extraction, counted = running.result()
    assert (len(extraction.written), sum(counted)) == (4, 6)


def test_every_photo_is_written_or_rejected(extracted: FeatureSet):
    written = [key for split in ("train", "val", "test") for key in extracted.split(split).keys]
    assert sorted(written) == sorted(PHOTOS)
    reasons = {"cut.jpg": "image data is truncated or corrupt", "text.jpg": "not an image of a known format"}
    assert {row.source: row.reason for row in extracted.rejected} == reasons
    report = pq.read_table(Path(extracted.uri) / "quarantine.parquet").to_pylist()
    assert {row["source"]: row["reason"] for row in report} == reasons
    assert {row["split"] for row in report} == {"train", "test"}


def test_a_rerun_writes_nothing(manifest: Manifest, extracted: FeatureSet):
    folder = Path(extracted.uri)
    before = contents(folder)
    mtimes = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again, counted = run(manifest, folder.parents[1])
    assert (len(again.written), again.shards_reused, again.photos_detected, sum(counted)) == (0, 4, 0, 6)
    assert contents(folder) == before
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == mtimes


def test_rerun_of_killed_extraction_gives_the_same_bytes(tmp_path: Path, manifest: Manifest, extracted: FeatureSet):
    """All states that a kill can leave: no index, a shard without receipt, no shard, an incomplete file."""
    broken = tmp_path / "features" / Path(extracted.uri).name
    shutil.copytree(extracted.uri, broken)
    (broken / "index.json").unlink()
    train, val = shard(extracted, "features-train-000000"), shard(extracted, "features-val-000000")
    (broken / f"{train}.receipt.json").unlink()
    (broken / f"{val}.receipt.json").unlink()
    (broken / f"{val}.tar").unlink()
    (broken / f".{val}.tar.0000dead").write_bytes(b"half")
    with pytest.raises(UserError, match="no finished feature set here"):
        FeatureSet.open(str(broken))
    extraction, _ = run(manifest, tmp_path)
    assert (len(extraction.written), extraction.shards_reused) == (2, 2)
    (broken / f".{val}.tar.0000dead").unlink()
    assert contents(broken) == contents(extracted.uri)


@pytest.mark.long  # the test above has one, too
def test_a_lost_tar_is_written_again(tmp_path: Path, manifest: Manifest, extracted: FeatureSet):
    copy = tmp_path / "features" / Path(extracted.uri).name
    shutil.copytree(extracted.uri, copy)
    (copy / f"{shard(extracted, 'features-val')}.tar").unlink()
    assert len(run(manifest, tmp_path)[0].written) == 1
    assert contents(copy) == contents(extracted.uri)


def test_stored_regions_are_the_detectors(tmp_path: Path, manifest: Manifest):
    """Compares the stored regions with those of the embedded detector."""
    features = run(manifest, tmp_path, detector="embedded")[0].feature_set
    split, embedded = features.split("val"), registry.resolve("embedded")
    pixels = np.asarray(Image.open(Path(manifest.root) / "astronaut.jpg").convert("RGB"))
    (expected,) = embedded.build("cpu")([pixels])
    # The actor runs on one thread, this process on more: sums of floats differ in the last bits.
    np.testing.assert_allclose(split[[0]][0].astype(np.float32), expected.features, atol=2e-3)
    np.testing.assert_allclose(split.boxes(0), expected.boxes, atol=0.02)
    meta = split.meta[0]
    assert (meta["height"], meta["width"], meta["captions"]) == (120, 160, ["a astronaut", "astronaut!"])
    assert meta["classes"] == expected.classes.tolist()
    assert features.index.detector.class_names[1] == "person"
    assert features.index.fingerprint == embedded.fingerprint()


def test_lineage_names_each_parent(manifest: Manifest, extracted: FeatureSet):
    assert extracted.index.manifest == manifest.digest()
    assert extracted.index.fingerprint == TinyDetector().fingerprint()
    stored = (Path(extracted.uri) / f"manifest-{manifest.digest()[:12]}.parquet").read_bytes()
    assert Manifest.from_parquet(stored, "stored").digest() == manifest.digest()
    sizes = json.loads((Path(extracted.uri) / "sizes.json").read_text())
    assert sum(sizes.values()) == 4


def test_a_lost_photo_fails_the_job(tmp_path: Path, manifest: Manifest, extracted: FeatureSet):
    """planned = written + rejected must hold; here a photo is removed from a receipt."""
    copy = tmp_path / Path(extracted.uri).name
    shutil.copytree(extracted.uri, copy)
    receipt = copy / f"{shard(extracted, 'features-val')}.receipt.json"
    document = json.loads(receipt.read_text())
    receipt.write_text(json.dumps(document | {"written": [], "count": 0}))
    receipts = read_receipts(FolderStore(copy), [entry.name for entry in extracted.index.shards])
    accounts = [Account.of(receipt) for receipt in receipts if receipt]
    with pytest.raises(RuntimeError, match="planned 6 photos, written 3, rejected 2"):
        publish(Replacement.of(FolderStore(copy), INDEX), manifest, "f", extracted.index.detector, accounts)


def test_an_unwritable_output_fails_before_any_work(tmp_path: Path, manifest: Manifest):
    (tmp_path / "features").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot be written .*; choose another"):
        run(manifest, tmp_path)


@pytest.mark.parametrize("needs", [{"detector_gpus": 1.0}, {"detector_cpus": 4.0}, {"min_detector_actors": 2}])
def test_resources_that_no_node_has_are_an_error(tmp_path: Path, manifest: Manifest, needs: dict[str, float]):
    """Ray would wait without a message. With 4 CPUs, detectors of 4 leave none for fetching photos."""
    needs = {"detector_cpus": 2.0, "max_detector_actors": 2, **needs}
    with pytest.raises(
        UserError, match=r"^extract\.detector_cpus is .*, which needs .*, but the cluster has the nodes"
    ):
        run(manifest, tmp_path, **needs)
    assert not (tmp_path / "features").exists()


def test_too_many_rejected_photos_fail_the_job_with_a_report(tmp_path: Path, manifest: Manifest):
    with pytest.raises(
        UserError, match=r"of 6 photos are rejected, more than extract.max_rejected \(0.1 of them\): 1 x"
    ):
        run(manifest, tmp_path, max_rejected=0.1)
    (folder,) = (tmp_path / "features").iterdir()
    assert len(pq.read_table(folder / "quarantine-over-cap.parquet")) >= 1
    assert not (folder / "index.json").exists()
    failure = Failure.parse((folder / OBJECT).read_bytes())
    assert "photos are rejected, more than extract.max_rejected" in failure.error
    assert any("photos written, " in line for line in failure.log)
    # Completed shards are kept: with a higher limit the rest follows.
    extraction, _ = run(manifest, tmp_path)
    assert extraction.shards_reused >= 1
    assert len(extraction.feature_set.rejected) == 2
    assert not (folder / OBJECT).exists()


def test_a_data_set_without_a_usable_photo_fails_with_the_reason(tmp_path: Path):
    (tmp_path / "a.jpg").write_text("text")
    manifest = locate_photos("tiny", tmp_path, [Photo("a", "a.jpg", "train", ("x",))])
    with pytest.raises(
        UserError,
        match=r"1 of 1 photos are rejected, all of them: 1 x 'not an image of .*'; first a\.jpg",
    ):
        run(manifest, tmp_path)


def test_tar_of_other_photos_is_kept_and_new_name_used(tmp_path: Path, manifest: Manifest, extracted: FeatureSet):
    """A killed run wrote the tar, and the photo's file was replaced since."""
    left = tmp_path / "features" / Path(extracted.uri).name / f"{shard(extracted, 'features-val')}.tar"
    left.parent.mkdir(parents=True)
    left.write_bytes(build_tar([]))
    extraction, _ = run(manifest, tmp_path)
    assert shard(extraction.feature_set, "features-val") != left.stem
    assert extraction.feature_set.split("val").keys == extracted.split("val").keys
    again, _ = run(manifest, tmp_path)
    assert (again.written, again.feature_set.index) == ((), extraction.feature_set.index)


def test_a_failing_store_is_a_one_line_error(tmp_path: Path, manifest: Manifest, extracted: FeatureSet):
    left = tmp_path / "features" / Path(extracted.uri).name
    (left / f"{shard(extracted, 'features-val')}.tar").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        run(manifest, tmp_path)
    found = re.fullmatch(r"(.*); what is complete is kept, re-run the same command to resume", str(caught.value))
    assert found
    assert re.search(r"directory.*\.tar'$", found[1])
    assert "Failed to apply" not in found[1]  # Ray's advice


def test_other_settings_write_a_feature_set_beside_the_old_one(
    tmp_path: Path, manifest: Manifest, extracted: FeatureSet
):
    copy = tmp_path / "features" / Path(extracted.uri).name
    shutil.copytree(extracted.uri, copy)
    other, _ = run(manifest, tmp_path, detector_settings={"scale": 2.0})
    assert other.feature_set.uri != str(copy)
    assert contents(copy) == contents(extracted.uri)
    assert other.feature_set.index.fingerprint != extracted.index.fingerprint


def test_a_store_without_conditional_writes_is_refused(tmp_path: Path, manifest: Manifest, s3_server: S3Server):
    output = f"s3://{s3_server.bucket}/{tmp_path.name}"
    for fault, message in ((CONDITION_IGNORED, "ignores the condition"), (CONDITION_REFUSED, "refuses conditional")):
        with (
            faulty_proxy(s3_server.endpoint) as proxy,
            aws_environment({**s3_server.environment(), "AWS_ENDPOINT_URL": proxy.endpoint}),
        ):
            proxy.always(fault)
            with pytest.raises(UserError, match=f"the store {message}"):
                run(manifest, tmp_path, output=output)
    assert open_store(output).objects() == {}


def test_the_folder_of_another_data_set_is_refused(tmp_path: Path, manifest: Manifest, extracted: FeatureSet):
    folder = tmp_path / "features" / Path(extracted.uri).name
    shutil.copytree(extracted.uri, folder)
    photo = next(manifest.photos())
    other = Manifest.build(
        manifest.name, manifest.root, [Photo("other", photo.source, "train", ("x",), photo.version_token)]
    )
    with pytest.raises(UserError, match=f"^{folder} belongs to another data set, 'tiny' with other photos"):
        run(other, tmp_path)
    assert contents(folder) == contents(extracted.uri)
