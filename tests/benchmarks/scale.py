"""Planning, accounting and rerunning extractions of millions of photos: time and memory of the driver.

No photo is read: receipts are made up, and tars are empty files. Each step runs in a process of its own, whose peak
memory counts.
"""

import io
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from infra.cluster import ClusterConfig
from infra.storage.folder import FolderStore
from pipelines.datasets.manifest import SCHEMA, Manifest, Photo
from pipelines.datasets.photo_sources import locate_photos
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.run import extract, extraction_summary, plan_extraction
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import receipt_name, tar_name
from pipelines.features.manifests import write_manifest
from pipelines.features.orphans import find_orphans
from pipelines.features.receipt import Receipt, Written
from pipelines.features.summary import summarise
from tests.benchmarks import measure
from tests.benchmarks.report import Benchmark, Measurement, within
from tests.benchmarks.sizes import Sizes

MEMORY_GIB, MINUTES, PHOTOS = 4.0, 10.0, 12_000_000
"""Limits of all steps together for PHOTOS photos; other numbers of photos have their share of the time."""
STEPS = ("plan", "rerun", "inspect", "gc")
_REGIONS_BYTES, _BOXES_BYTES, _JSON_BYTES = 147_584, 704, 1_500
_CHUNK = 100_000


def benchmarks(sizes: Sizes) -> list[Benchmark]:
    """The benchmarks of this file. Files are written to the temporary folder; TMPDIR chooses another disk."""
    planned = [Benchmark(f"driver, {count:,} photos", partial(_driver, count)) for count in sizes.planned_photos]
    return [*planned, Benchmark("extraction of many photos", lambda: _stream(sizes.streamed_photos))]


def _driver(count: int) -> Iterator[Measurement]:
    """Seconds and peak memory of each step, and what the disk takes for the same: bytes and a plain listing."""
    with tempfile.TemporaryDirectory() as folder:
        found = {step: measure.in_fresh_process(_run, step, count, Path(folder)) for step in ("write", *STEPS)}
        (place,) = Path(folder, "features").iterdir()
        started = time.perf_counter()
        listed = [entry.stat().st_size for entry in os.scandir(place)]
        listing = time.perf_counter() - started
    name = f"{count:,} photos"
    for step in STEPS:
        yield Measurement(f"{step}, {name}", found[step].seconds, "s", "plain listing of the folder", listing, "lower")
        yield within(f"peak memory of {step}, {name}", found[step].gib, MEMORY_GIB, "GiB")
    spent = found["plan"].seconds + found["rerun"].seconds
    yield within(f"plan and rerun, {name}", spent, max(MINUTES * 60 * count / PHOTOS, 10), "s")
    yield Measurement(f"manifest, receipts and index on disk, {name}", sum(listed) / count, "bytes per photo")


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


def _write(manifest: Manifest, config: ExtractConfig) -> None:
    """Writes an empty tar and a made-up receipt for every planned shard."""
    plan = plan_extraction(manifest, config, ClusterConfig())
    store = plan.store
    write_manifest(store, manifest)
    for task in plan.feature_set.missing:
        offsets = np.cumsum([0] + [_REGIONS_BYTES + _BOXES_BYTES + _JSON_BYTES] * len(task.photos))
        written = tuple(
            Written(
                photo.key,
                photo.source,
                photo.version_token,
                f"{int(photo.key) * 0x9E3779B97F4A7C15 % 2**256:064x}",
                (
                    (int(at) + 3072, _REGIONS_BYTES),
                    (int(at) + 512, _BOXES_BYTES),
                    (int(at) + 1536, _JSON_BYTES),
                ),
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
    tiny = "tests.support.tiny_detector:TinyDetector"
    config = ExtractConfig(str(folder / "features"), tiny, photos_per_shard=832)
    done = extract(manifest, config, ClusterConfig(), lambda _: None)
    assert done.photos_detected == count
    print(extraction_summary(done))


def _step(step: str, count: int, manifest: Manifest | None, folder: Path) -> None:
    config = ExtractConfig(str(folder / "features"))
    if manifest and step == "write":
        _write(manifest, config)
    elif manifest and step == "plan":  # in an empty folder
        plan = plan_extraction(manifest, ExtractConfig(str(folder / "empty")), ClusterConfig())
        assert plan.feature_set.photo_count == count
    elif step == "stream":
        _extract_stream(count, folder)
    elif manifest and step == "rerun":  # reads all receipts, checks the accounting and writes the index
        done = extract(manifest, config, ClusterConfig(), lambda _: None)
        assert not done.written, len(done.written)
        print(extraction_summary(done))
    else:
        (place,) = (folder / "features").iterdir()
        if step == "inspect":
            features = FeatureSet.open(str(place))
            assert features.index.photos_written == count
            assert sum(split.captions for split in summarise(features)) == count
        else:
            assert not find_orphans(FolderStore(place), earlier_snapshots=True).items


def _run(step: str, count: int, folder: Path) -> Measured:
    """Runs one step, and returns its seconds and the peak memory of this process."""
    manifest = made_up_manifest(count) if step in ("write", "plan", "rerun") else None
    started = time.perf_counter()
    _step(step, count, manifest, folder)
    return Measured(time.perf_counter() - started, measure.gib("VmHWM"))
