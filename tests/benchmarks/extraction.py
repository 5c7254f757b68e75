"""Extraction: Ray Data against the bare detector loop, reruns, shards against the disk, memory against photos."""

import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from infra.cluster import ClusterConfig, connect
from infra.storage.folder import FolderStore
from pipelines.datasets.decode import decode_photo
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.datasets.photo_sources import locate_photos, photo_uri, read_photo
from pipelines.detectors import registry
from pipelines.detectors.contract import Detector
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.run import extract
from pipelines.features.feature_set import FeatureSet
from pipelines.features.shards import Sample, build_tar, commit_shard
from tests.benchmarks.inputs import FEATURES, REGIONS
from tests.benchmarks.measure import Row, forget, seconds, tree_peak_gib

CORES, PHOTOS, PER_SHARD = 2, 512, 32
FEW, MANY, ROUNDS = 200, 2000, 2


def rows() -> Iterator[Row]:
    """Every figure of this file. Files lie in the temporary folder: set TMPDIR to measure another disk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from _shards(folder / "shards")
        yield from _memory(folder)
        yield from _pipeline(synthetic(folder / "photos", PHOTOS), folder / "features")


def synthetic(folder: Path, count: int) -> Manifest:
    """JPEGs of 640 x 480 smooth noise, all different."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")
    return locate_photos("synthetic", folder, [Photo(f"p{n}", f"{n}.jpg", "train", ("noise",)) for n in range(count)])


def _pipeline(manifest: Manifest, output: Path) -> Iterator[Row]:
    """Photos a second of CORES detector processes: on their own, and as actors between the other stages.

    The two take turns, and the best of each counts: other work on the machine comes and goes.
    """
    connect(ClusterConfig())
    bare, steady, first = 0.0, 0.0, float("inf")
    for turn in range(ROUNDS):
        bare = max(bare, _bare(manifest))
        config = ExtractConfig(
            f"{output}/{turn}", detector_actors_min=CORES, detector_actors_max=CORES, photos_per_shard=PER_SHARD
        )
        rate, spent = _extract(manifest, config)
        steady, first = max(steady, rate), min(first, spent)
    start = time.perf_counter()
    again = extract(manifest, config, ClusterConfig(), lambda _: None)
    rerun = time.perf_counter() - start
    assert not again.written
    yield Row(f"bare detector loop, {CORES} processes", bare, "photos/s")
    yield Row(f"Ray Data pipeline, {CORES} detector actors", steady, "photos/s")
    yield Row("Ray Data pipeline against the bare loop", steady / bare, "x", goal=0.9)
    yield Row("the same with starting and loading", PHOTOS / first / bare, "x")
    yield Row("rerun of a finished job against its first run", 100 * rerun / first, "%", goal=1, better="lower")


def _extract(manifest: Manifest, config: ExtractConfig) -> tuple[float, float]:
    """Photos a second from the first receipts on (before, processes start and the detector loads), and all seconds."""
    moments: list[tuple[float, int]] = []
    start = time.perf_counter()
    extract(manifest, config, ClusterConfig(), lambda photos: moments.append((time.perf_counter(), photos)))
    begun, ended = moments[CORES][0], moments[-1][0]
    return sum(photos for _, photos in moments[CORES + 1 :]) / (ended - begun), ended - start


def _bare(manifest: Manifest) -> float:
    uris = [photo_uri(manifest.root, photo.source) for photo in manifest.photos()]
    with multiprocessing.get_context("spawn").Pool(CORES, _load) as pool:
        pool.map(_detect, [uris[:PER_SHARD]] * CORES, chunksize=1)
        start = time.perf_counter()
        pool.map(_detect, [uris[at : at + PER_SHARD] for at in range(0, len(uris), PER_SHARD)], chunksize=1)
        return len(uris) / (time.perf_counter() - start)


_detector: Detector


def _load() -> None:
    global _detector
    torch.set_num_threads(1)
    _detector = registry.resolve("embedded").build("cpu")


def _detect(uris: list[str]) -> None:
    _detector([decode_photo(read_photo(uri)).pixels for uri in uris])


def _shards(folder: Path) -> Iterator[Row]:
    """Shards of 32 photos written and read against the same bytes by plain files."""
    draw = np.random.default_rng(0)
    samples = [
        Sample(
            f"p{n}",
            draw.standard_normal((REGIONS, FEATURES)).astype(np.float16),
            draw.random((REGIONS, 4), dtype=np.float32),
            {"source": f"{n}.jpg", "captions": ["noise"] * 5, "sha256": "0" * 64},
        )
        for n in range(32)
    ]
    data, count = build_tar(samples), 24
    ours, plain = FolderStore(folder / "ours"), FolderStore(folder / "plain")

    def write() -> None:
        shutil.rmtree(ours.root, ignore_errors=True)
        for n in range(count):
            commit_shard(ours, f"features-train-{n:06d}-00000000", samples, [])

    def write_plain() -> None:
        shutil.rmtree(plain.root, ignore_errors=True)
        for n in range(count):
            plain.replace(f"{n}.bin", data)

    by_shards, by_plain = seconds(write, write_plain)
    yield Row("writing shards", count * len(data) / by_shards / 1e6, "MB/s")
    yield Row("writing shards against plain files with fsync", by_plain / by_shards, "x")
    names = [f"features-train-{n:06d}-00000000" for n in range(count)]
    receipts = tuple(commit_shard(ours, name, samples, []) for name in names)
    split = FeatureSet(ours, {}, receipts).split("train")
    paths = [ours.root / f"{name}.tar" for name in names]

    def read() -> None:
        forget(*paths)
        for row in range(len(split)):
            split[[row]]

    def read_plain() -> None:
        forget(*paths)
        for path in paths:
            path.read_bytes()

    by_rows, by_read = seconds(read, read_plain)
    yield Row("reading photo by photo, by offset, from the disk", count * len(data) / by_rows / 1e6, "MB/s")
    yield Row("reading photo by photo against plain reads of whole files", by_read / by_rows, "x", goal=0.5)


def _memory(folder: Path) -> Iterator[Row]:
    """Peak memory of driver, Ray and workers together, a job of its own each time."""
    peaks = []
    for count in (FEW, MANY):
        photos = folder / f"photos{count}"
        synthetic(photos, count)
        table = folder / f"{count}.csv"
        table.write_text("uri,caption\n" + "".join(f"{n}.jpg,noise\n" for n in range(count)))
        command = [sys.executable, "-m", "jobs.extract", f"--dataset={table}", f"--photos={photos}"]
        command += [f"--extract.output={folder}/memory", "--extract.detector=tests.support.tiny_detector:TinyDetector"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as job:
            peaks.append(tree_peak_gib(job.pid))
        assert job.returncode == 0
        yield Row(f"memory of a job of {count:,} photos", peaks[-1], "GiB")
    yield Row(f"memory, {MANY:,} photos against {FEW}", peaks[1] / peaks[0], "x", goal=1.2, better="lower")
