"""Importing, planning, accounting, rerunning, reading and verifying extractions of millions of photos: time, memory.

No photo is read. Shards have regions of zeros, 4 KB per photo; beyond MOST_VERIFIED photos, receipts are made up and
tars are empty files. Each step runs in a process of its own, whose peak memory counts.
"""

import gc
import io
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from infra.cluster import ClusterConfig
from infra.storage.base import Store
from jobs.cli import NEW_OBJECTS
from pipelines.datasets.importer import DatasetFiles, import_dataset
from pipelines.datasets.locate_photos import locate_photos
from pipelines.datasets.manifest import SCHEMA, Manifest, Photo
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.reconcile import ShardTask
from pipelines.extraction.run import extract, extraction_summary, plan_extraction
from pipelines.features.account import Account
from pipelines.features.commands import clean_up, inspect_features
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import receipt_name, tar_name
from pipelines.features.manifests import write_manifest
from pipelines.features.quarantine import quarantine_report
from pipelines.features.receipt import Receipt, Rejection, Written
from pipelines.features.shards import Sample, commit_shard
from pipelines.features.summary import summarise
from pipelines.features.verify import verify
from pipelines.training.batches import ShuffledBatches
from tests.benchmarks import measure
from tests.benchmarks.report import Benchmark, Measurement, within
from tests.benchmarks.sizes import Sizes

MEMORY_GIB, MINUTES, PHOTOS = 4.0, 10.0, 12_000_000
"""Limits of all steps together for PHOTOS photos; other numbers of photos have a proportional time."""
MOST_VERIFIED = 1_000_000
STEPS = ("import", "plan", "rerun", "read", "inspect", "gc")
_TINY = "tests.support.tiny_detector:TinyDetector"
_REGIONS, _WIDTH = 36, 8
_REGIONS_BYTES, _BOXES_BYTES, _JSON_BYTES = 147_584, 704, 1_500
_CHUNK = 100_000
PHOTOS_PER_SHARD = 832
"""That of `embedded` with shards of 128 MB."""
BATCH = 128


def benchmarks(sizes: Sizes) -> list[Benchmark]:
    """The benchmarks of this file. Files are written to the temporary folder; TMPDIR chooses another disk."""
    planned = [Benchmark(f"driver, {count:,} photos", partial(_driver, count)) for count in sizes.planned_photos]
    rejected = Benchmark("rejected photos", lambda: _rejected(sizes.rejected_photos))
    return [*planned, rejected, Benchmark("extraction of many photos", lambda: _stream(sizes.streamed_photos))]


def _driver(count: int) -> Iterator[Measurement]:
    """Seconds and peak memory of each step, and what the disk takes for the same: bytes and a plain listing."""
    steps = (*STEPS, "verify") if count <= MOST_VERIFIED else STEPS
    with tempfile.TemporaryDirectory() as folder:
        found = {step: measure.in_fresh_process(_run, step, count, Path(folder)) for step in ("write", *steps)}
        (place,) = Path(folder, "features").iterdir()
        started = time.perf_counter()
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(place)}
        listing = time.perf_counter() - started
    described = sum(size for name, size in sizes.items() if not name.endswith(".tar"))
    name = f"{count:,} photos"
    for step in steps:
        yield Measurement(f"{step}, {name}", found[step].seconds, "s", "plain listing of the folder", listing, "lower")
        yield within(f"peak memory of {step}, {name}", found[step].gib, MEMORY_GIB, "GiB")
    spent = sum(found[step].seconds for step in ("import", "plan", "rerun"))
    yield within(f"import, plan and rerun, {name}", spent, max(MINUTES * 60 * count / PHOTOS, 10), "s")
    yield Measurement(f"manifest, receipts and index on disk, {name}", described / count, "bytes per photo")


def _rejected(count: int) -> Iterator[Measurement]:
    """Memory of a driver for rejections, 250 of each shard: their accounts and the quarantine report."""
    accounts, report = measure.in_fresh_process(_reject, count)
    yield Measurement(f"accounts of {count:,} rejected photos", accounts * 2**30 / count, "bytes per rejection")
    yield Measurement(f"peak with their quarantine report, {count:,}", report * 2**30 / count, "bytes per rejection")


def _reject(count: int) -> tuple[float, float]:
    """Returns the memory of the accounts of rejected web photos and the peak with their report, in GiB."""
    accounts, before = list[Account](), measure.gib("VmRSS")
    for start in range(0, count, 250):
        rejected = tuple(
            Rejection(f"{row:09d}", f"https://photos.example.org/{row % 997:03d}/{row:09d}.jpg", "HTTP status 404")
            for row in range(start, start + 250)
        )
        name = f"features-train-{start // 250:06d}-{start:08x}"
        accounts.append(Account.of(Receipt(name, 1, "0" * 64, "0" * 64, (), rejected)))
    held = measure.gib("VmRSS")
    quarantine_report(accounts)
    return held - before, measure.gib("VmHWM") - before


def _stream(count: int) -> Iterator[Measurement]:
    """An extraction through Ray, with a detector that takes no time, of small photos in one tar."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure.in_fresh_process(_run, "stream", count, Path(folder))
    name = f"{count:,} photos, made-up detector"
    yield Measurement(f"extraction through Ray, {name}", count / found.seconds, "photos/s")
    yield within(f"peak memory of the driver, {name}", found.gib, MEMORY_GIB, "GiB")


@dataclass(frozen=True)
class Measured:
    """What one step took."""

    seconds: float
    gib: float


def made_up_manifest(count: int) -> Manifest:
    """Returns a manifest of web photos with one caption each."""
    tables = []
    for start in range(0, count, _CHUNK):
        rows = range(start, min(start + _CHUNK, count))
        columns = {
            "key": [f"{row:09d}" for row in rows],
            "source": [f"https://photos.example.org/{row % 997:03d}/{row:09d}.jpg" for row in rows],
            "split": ["val" if row % 100 == 0 else "train" for row in rows],
            "captions": [[f"caption {row} of a photo that shows two dogs on a green lawn"] for row in rows],
            "version_token": [""] * len(rows),
        }
        tables.append(pa.table(columns, schema=SCHEMA))
    return Manifest("synthetic", "/photos", pa.concat_tables(tables))


def _write(manifest: Manifest, config: ExtractConfig, table: Path) -> None:
    """Writes the data set as a Parquet file of URLs and captions, and its feature set without an index."""
    with pq.ParquetWriter(table, pa.schema([("url", pa.string()), ("TEXT", pa.string())])) as writer:
        for batch in manifest.table.to_batches():
            columns = [batch["source"], batch["captions"].flatten()]
            writer.write_batch(pa.record_batch(columns, schema=writer.schema))
    plan = plan_extraction(manifest, config, ClusterConfig())
    write_manifest(plan.store, manifest)
    write_shard = _write_shard if manifest.table.num_rows <= MOST_VERIFIED else _make_up_shard
    for task in plan.feature_set.missing:
        write_shard(plan.store, task)


def _sha256(photo: Photo) -> str:
    return f"{int(photo.key) * 0x9E3779B97F4A7C15 % 2**256:064x}"


def _write_shard(store: Store, task: ShardTask) -> None:
    """Writes a shard of regions of zeros."""
    regions_RF, boxes_R4 = (
        np.zeros((_REGIONS, _WIDTH), np.float16),
        np.tile(np.float32([0, 0, 640, 480]), (_REGIONS, 1)),
    )
    found = {"classes": [0] * _REGIONS, "confidences": [0.5] * _REGIONS, "width": 640, "height": 480}
    samples = [
        Sample(
            photo.key,
            regions_RF,
            boxes_R4,
            {"source": photo.source, "captions": photo.captions, "sha256": _sha256(photo), **found},
        )
        for photo in task.photos
    ]
    commit_shard(store, task.name, samples, [], task.plan_digest)


def _make_up_shard(store: Store, task: ShardTask) -> None:
    """Writes an empty tar and a receipt that has the sizes of `embedded`."""
    offsets = np.cumsum([0] + [_REGIONS_BYTES + _BOXES_BYTES + _JSON_BYTES] * len(task.photos))
    written = tuple(
        Written(
            photo.key,
            photo.source,
            photo.version_token,
            _sha256(photo),
            ((int(at) + 3072, _REGIONS_BYTES), (int(at) + 512, _BOXES_BYTES), (int(at) + 1536, _JSON_BYTES)),
        )
        for photo, at in zip(task.photos, offsets, strict=False)
    )
    receipt = Receipt(task.name, int(offsets[-1]), "0" * 64, task.plan_digest, written, ())
    Path(store.uri, tar_name(task.name)).touch()
    Path(store.uri, receipt_name(task.name)).write_bytes(receipt.to_json())


def _extract_stream(count: int, folder: Path) -> None:
    """Extracts photos of noise, all different, in shards and parts of the usual number of photos."""
    rng, buffer = np.random.default_rng(0), io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(buffer, "JPEG")
    with tarfile.open(folder / "photos.tar", "w") as tar:
        for number in range(count):
            data = buffer.getvalue() + number.to_bytes(4, "big")  # behind the end of the image
            member = tarfile.TarInfo(f"{number:09d}.jpg")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    rows = [Photo(f"{n:09d}", f"{n:09d}.jpg", "train", (f"caption {n}",)) for n in range(count)]
    manifest = locate_photos("synthetic", folder / "photos.tar", rows)
    config = ExtractConfig(str(folder / "features"), _TINY, photos_per_shard=PHOTOS_PER_SHARD)
    done = extract(manifest, config, ClusterConfig(), lambda _: None)
    assert done.photos_detected == count
    print(extraction_summary(done))


def _step(step: str, count: int, manifest: Manifest | None, folder: Path) -> None:
    config = ExtractConfig(str(folder / "features"), _TINY, photos_per_shard=PHOTOS_PER_SHARD)
    table = folder / "urls.parquet"
    if manifest and step == "write":
        _write(manifest, config, table)
    elif step == "import":
        imported = import_dataset(DatasetFiles((str(table),), None, {"image": "url", "caption": "TEXT"}))
        assert imported.table.num_rows == count
    elif manifest and step == "plan":  # in an empty folder
        plan = plan_extraction(manifest, replace(config, output=str(folder / "empty")), ClusterConfig())
        assert plan.feature_set.photo_count == count
    elif step == "stream":
        _extract_stream(count, folder)
    elif manifest and step == "rerun":  # reads all receipts, checks the accounting and writes the index
        done = extract(manifest, config, ClusterConfig(), lambda _: None)
        assert not done.written, len(done.written)
        print(extraction_summary(done))
    else:
        (place,) = (folder / "features").iterdir()
        _read(step, count, str(place), folder / "page.html")


def _read(step: str, count: int, place: str, page: Path) -> None:
    """Runs a step on a finished feature set."""
    if step == "verify":
        found = verify(place, lambda *_: None)
        assert (found.photos, found.errors) == (count, ())
    elif step == "read":  # what a worker of a training holds, and the order of an epoch
        split = FeatureSet.open(place).captioned("train")
        assert len(ShuffledBatches(split, BATCH, 0).order(0)) == len(split.captions) // BATCH
    elif step == "inspect" and count <= MOST_VERIFIED:
        assert f"{count}" in inspect_features(place, page)
    elif step == "inspect":  # the page needs tars
        features = FeatureSet.open(place)
        assert features.index.photos_written == count
        assert sum(split.captions for split in summarise(features)) == count
    else:
        assert "nothing was deleted" not in clean_up(place, delete=False, unfinished=True, earlier_snapshots=True)


def _run(step: str, count: int, folder: Path) -> Measured:
    """Runs one step, and returns its seconds and the peak memory of this process."""
    gc.set_threshold(NEW_OBJECTS)  # as every command does
    manifest = made_up_manifest(count) if step in ("write", "plan", "rerun") else None
    started = time.perf_counter()
    _step(step, count, manifest, folder)
    return Measured(time.perf_counter() - started, measure.gib("VmHWM"))
