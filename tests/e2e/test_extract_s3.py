"""Photos in a bucket, one of them corrupt, become a feature set in the bucket: plan, extract, inspect, move, export."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from infra.metrics import (
    ACCOUNTED_PHOTOS,
    MAX_REJECTED_RATIO,
    PLAN_PHOTOS,
    PLANNED_PHOTOS,
    REJECTED_PHOTOS,
    REJECTED_RATIO,
    STORE_REQUESTS,
    WRITTEN_BYTES,
    WRITTEN_PHOTOS,
)
from infra.storage.open import open_store
from pipelines.features.feature_set import FeatureSet
from tests.support.commands import call_command, run_here
from tests.support.extractions import TINY
from tests.support.photos import Photos
from tests.support.scrape import Scraped
from tests.support.servers import S3Server

STRAY = "features-train-000099-0123abcd.tar"
"""The name of an object that no index refers to."""
COUNTERS = [metric.exported for metric in (PLANNED_PHOTOS, WRITTEN_PHOTOS, WRITTEN_BYTES, REJECTED_PHOTOS)]
"""Those that the driver counts, exactly."""
GAUGES = (PLAN_PHOTOS, ACCOUNTED_PHOTOS, REJECTED_RATIO, MAX_REJECTED_RATIO)
Call = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Extracted:
    """A finished extraction of real photos, and what its commands printed."""

    folder: Path
    root: str
    job: list[str]
    count: int
    planned: str
    output: str
    metrics: dict[str, float]
    """Counters and gauges of the metrics after it; of counters, what it added."""

    @property
    def uri(self) -> str:
        """URI of the feature set, with its digest."""
        return self.output.split()[0]


@pytest.fixture(scope="module")
def extracted(
    ray_session: None, real_photos: Photos, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Extracted:
    folder, root = tmp_path_factory.mktemp("extracted"), f"s3://{s3_server.bucket}/bucket-to-bucket"
    photos = open_store(f"{root}/photos")
    names = real_photos.names()
    for name in names:
        data = (real_photos.folder / name).read_bytes()
        photos.put_if_absent(name, data[:1500] if name == names[-1] else data)
    job = [f"--dataset={real_photos.dataset}", f"--photos={root}/photos", "--extract.photos_per_shard=6"]
    job += ["--extract.max_rejected=0.05", f"--extract.detector={TINY}", f"--extract.output={root}/features"]
    planned = run_here(folder, "jobs.extract", *job, "--plan", "--estimate.dollars_per_node_hour=2")
    assert not any(name.endswith(".tar") for name in open_store(f"{root}/features").objects())
    with Scraped() as scraped:
        scraped.settle()
        before = {name: scraped.total(name) for name in COUNTERS}
        output = run_here(folder, "jobs.extract", *job)
        scraped.settle()
        scraped.require("shan_extraction_")
        after = {name: scraped.total(name) - before[name] for name in COUNTERS}
        name = output.split()[0].partition("@")[0].rpartition("/")[2]
        after |= {metric.name: scraped.total(metric.exported, feature_set=name) for metric in GAUGES}
        after["corrupt"] = scraped.total(REJECTED_PHOTOS.exported, kind="corrupt")
        after["puts"] = scraped.total(STORE_REQUESTS.exported, operation="PutObject")
    return Extracted(folder, root, job, real_photos.count, planned, output, after)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Returns a function that runs a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(call_command, monkeypatch, capsys)


def test_the_plan_estimates_time_and_cost(extracted: Extracted):
    assert re.search(r"\| shards \| photos to detect \| GB \| hours \| cost \|", extracted.planned)
    assert re.search(rf"\| \d+ \| {extracted.count} \| .* dollars \|", extracted.planned)


def test_the_extraction_reports_every_photo_beside_its_plan(extracted: Extracted):
    written = extracted.count - 1
    assert f"{extracted.count} photos planned = {written} written + 1 rejected" in extracted.output
    assert re.search(rf"photos detected \| {extracted.count} \| {written} \| 0.9\d", extracted.output)


def test_its_metrics_account_for_every_photo(extracted: Extracted):
    found, count = extracted.metrics, extracted.count
    assert found[PLANNED_PHOTOS.exported] == count
    assert (found[WRITTEN_PHOTOS.exported], found[REJECTED_PHOTOS.exported]) == (count - 1, 1)
    assert (found[PLAN_PHOTOS.name], found[ACCOUNTED_PHOTOS.name]) == (count, count)
    assert found[REJECTED_RATIO.name] == pytest.approx(1 / count)
    assert found[MAX_REJECTED_RATIO.name] == 0.05
    assert found["corrupt"] >= 1
    stored = sum(shard.size for shard in FeatureSet.open(extracted.uri).index.shards)
    assert 0 < found[WRITTEN_BYTES.exported] <= 1.1 * stored
    assert found["puts"] >= len(FeatureSet.open(extracted.uri).index.shards)


def test_the_corrupt_photo_is_recorded_with_its_reason(extracted: Extracted):
    (rejection,) = FeatureSet.open(extracted.uri).rejected
    assert rejection.reason in ("image data is truncated or corrupt", "not an image of a known format")
    assert f"rejected 1 x '{rejection.reason}'" in extracted.output
    assert f"first {rejection.source}; all of them in" in extracted.output


def test_a_second_extraction_writes_nothing(extracted: Extracted):
    again = run_here(extracted.folder, "jobs.extract", *extracted.job)
    assert "(0 written now," in again
    assert "0 detected now" in again


def test_verify_and_inspect_read_the_bucket(extracted: Extracted, call: Call):
    code, out, _ = call("jobs.features", "verify", extracted.uri)
    assert (code, f"{extracted.count - 1} photos" in out) == (0, True), out
    code, out, _ = call("jobs.features", "inspect", extracted.uri, "--page=page.html")
    assert (code, "fingerprint  tiny-" in out) == (0, True), out
    assert Path("page.html").read_text().count("data:image/jpeg;base64,") == 12


def test_gc_deletes_an_orphaned_object(extracted: Extracted, call: Call):
    bare = extracted.uri.partition("@")[0]
    store = open_store(bare)
    store.put_if_absent(STRAY, b"left by a killed run")
    code, out, _ = call("jobs.features", "gc", bare, "--delete")
    assert (code, STRAY in out) == (0, True), out
    assert STRAY not in store.objects()


def test_copied_feature_set_is_valid_and_reused(extracted: Extracted, call: Call):
    bare, _, digest = extracted.uri.partition("@")
    store, copy = open_store(bare), open_store(f"{extracted.root}/elsewhere/{Path(bare).name}")
    for name in store.objects():
        copy.put_if_absent(name, store.read(name))
    code, out, _ = call("jobs.features", "verify", f"{copy.uri}@{digest}")
    assert (code, f"{extracted.count - 1} photos" in out) == (0, True), out
    elsewhere = [*extracted.job[:-1], f"--extract.output={extracted.root}/elsewhere"]
    output = run_here(extracted.folder, "jobs.extract", *elsewhere)
    assert f"{copy.uri}@{digest}" in output
    assert "(0 written now," in output


def test_export_writes_the_features_as_numpy_arrays(extracted: Extracted, call: Call):
    assert call("jobs.features", "export", extracted.uri, "npy")[0] == 0
    exported = np.load(Path("npy", "test_ims.npy"))
    assert np.array_equal(exported, FeatureSet.open(extracted.uri).split("test")[:].astype(np.float32))


def test_verify_finds_one_flipped_bit(extracted: Extracted, call: Call):
    store = open_store(extracted.uri.partition("@")[0])
    name = next(name for name in store.objects() if name.endswith(".tar"))
    good = store.read(name)
    bad = bytearray(good)
    bad[5000] ^= 1
    store.replace(name, bytes(bad))
    code, out, err = call("jobs.features", "verify", extracted.uri)
    store.replace(name, good)
    assert code == 1
    assert name in out + err
