"""Extraction: Ray Data against the bare detector loop, reruns, shards against plain files, memory against photos."""

import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from infra.cluster import ClusterConfig, connect
from infra.storage.folder import FolderStore
from pipelines.datasets.decode import decode_photo
from pipelines.datasets.locate_photos import locate_photos
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.datasets.photo_sources import photo_uri, read_photo
from pipelines.detectors import registry
from pipelines.detectors.contract import Detector
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.run import extract
from pipelines.features.layout import tar_name
from pipelines.features.shards import build_tar, commit_shard
from tests.benchmarks import measure
from tests.benchmarks.inputs import feature_set, noise_photos, samples
from tests.benchmarks.measure import drop_from_page_cache, seconds, tree_peak_gib
from tests.benchmarks.report import Benchmark, Measurement
from tests.benchmarks.sizes import FULL, Sizes

PROCESSES = 2
"""Detector processes."""
PARTS = 4
"""Parts of a shard."""
TURNS = 2
"""Measurements of the bare loop and of the pipeline; the best of each counts."""


def benchmarks(sizes: Sizes) -> list[Benchmark]:
    """The benchmarks of this file. Files are written to the temporary folder; TMPDIR chooses another disk."""
    return [
        Benchmark("writing shards", lambda: _writing(sizes)),
        Benchmark("reading shards", lambda: _reading(sizes)),
        Benchmark("memory of an extraction", lambda: _memory(sizes)),
        Benchmark("extraction on Ray Data", lambda: _pipeline(sizes)),
    ]


def _write_photos(folder: Path, count: int) -> Manifest:
    """Writes JPEGs of smooth noise, all different, and returns their manifest."""
    folder.mkdir()
    for number, pixels in enumerate(noise_photos(count)):
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    return locate_photos("synthetic", folder, [Photo(f"p{n}", f"{n}.jpg", "train", ("noise",)) for n in range(count)])


def _pipeline(sizes: Sizes) -> Iterator[Measurement]:
    """Throughput of PROCESSES detector processes: in a bare loop, and as actors of an extraction."""
    connect(ClusterConfig())
    bare, steady, first = 0.0, 0.0, float("inf")
    with tempfile.TemporaryDirectory() as folder:
        manifest = _write_photos(Path(folder, "photos"), sizes.detected_photos)
        for turn in range(TURNS if sizes == FULL else 1):
            bare = max(bare, _bare_throughput(manifest, sizes.photos_per_shard))
            config = ExtractConfig(
                f"{folder}/features-{turn}",
                min_detector_actors=PROCESSES,
                max_detector_actors=PROCESSES,
                photos_per_shard=PARTS * sizes.photos_per_shard,
                photos_per_part=sizes.photos_per_shard,
            )
            throughput, spent = _extract(manifest, config)
            steady, first = max(steady, throughput), min(first, spent)
        start = time.perf_counter()
        again = extract(manifest, config, ClusterConfig(), lambda _: None)
        rerun = time.perf_counter() - start
    assert not again.written
    peer = f"bare detector loop, {PROCESSES} processes"
    yield Measurement(f"Ray Data, {PROCESSES} detector actors, steady state", steady, "photos/s", peer, bare, goal=0.95)
    yield Measurement("the same with startup and model loading", sizes.detected_photos / first, "photos/s", peer, bare)
    yield Measurement("rerun of a finished extraction", rerun, "s", "first run", first, "lower", goal=100)


def _extract(manifest: Manifest, config: ExtractConfig) -> tuple[float, float]:
    """Photos per second from the first receipts on (processes have started by then), and seconds in all.

    Joining the last shard follows the last receipt of a part, so it counts in the seconds only.
    """
    receipts: list[tuple[float, int]] = []
    start = time.perf_counter()
    extract(manifest, config, ClusterConfig(), lambda photos: receipts.append((time.perf_counter(), photos)))
    steady_from, end = receipts[PROCESSES][0], receipts[-1][0]
    return sum(photos for _, photos in receipts[PROCESSES + 1 :]) / (end - steady_from), end - start


def _bare_throughput(manifest: Manifest, chunk: int) -> float:
    """Photos per second of detector processes that read, decode and detect, and write nothing."""
    uris = [photo_uri(manifest.root, photo.source) for photo in manifest.photos()]
    with multiprocessing.get_context("spawn").Pool(PROCESSES, _load_detector) as pool:
        pool.map(_detect, [uris[:chunk]] * PROCESSES, chunksize=1)
        start = time.perf_counter()
        pool.map(_detect, [uris[at : at + chunk] for at in range(0, len(uris), chunk)], chunksize=1)
        return len(uris) / (time.perf_counter() - start)


_detector: Detector


def _load_detector() -> None:
    import torch

    global _detector
    torch.set_num_threads(1)
    _detector = registry.resolve("embedded").build("cpu")


def _detect(uris: list[str]) -> None:
    _detector([decode_photo(read_photo(uri)).pixels for uri in uris])


def _writing(sizes: Sizes) -> Iterator[Measurement]:
    """Shards written, against the same bytes written to plain files; both are synchronised with the disk."""
    count = sizes.written_shards
    photos = [Photo(f"p{n}", f"{n}.jpg", "train", ("noise",) * 5) for n in range(sizes.photos_per_shard)]
    stored = samples(photos, sizes)
    data = build_tar(stored)
    with tempfile.TemporaryDirectory() as folder:
        shards, plain = FolderStore(Path(folder, "shards")), FolderStore(Path(folder, "plain"))

        def write() -> None:
            shutil.rmtree(shards.root, ignore_errors=True)
            for n in range(count):
                commit_shard(shards, f"features-train-{n:06d}-00000000", stored, [])

        def write_plain() -> None:
            shutil.rmtree(plain.root, ignore_errors=True)
            for n in range(count):
                plain.replace(f"{n}.bin", data)

        spent, by_plain = seconds(write, write_plain, rounds=sizes.rounds)
    megabytes = count * len(data) / 1e6
    yield Measurement("writing shards", megabytes / spent, "MB/s", "plain files with fsync", megabytes / by_plain)


def _reading(sizes: Sizes) -> Iterator[Measurement]:
    """Photos read one by one by their offsets, against plain reads of whole files; both from the disk."""
    with tempfile.TemporaryDirectory() as folder:
        photos = {"train": sizes.written_shards * sizes.photos_per_shard}
        features = feature_set(Path(folder), photos, sizes.photos_per_shard, sizes)
        split = features.split("train")
        paths = [Path(features.uri, tar_name(shard.name)) for shard in split.photos.shards]

        def read() -> None:
            drop_from_page_cache(*paths)
            for row in range(len(split)):
                split[[row]]

        def read_plain() -> None:
            drop_from_page_cache(*paths)
            for path in paths:
                path.read_bytes()

        spent, by_plain = seconds(read, read_plain, rounds=sizes.rounds)
        megabytes = sum(path.stat().st_size for path in paths) / 1e6
    peer = "plain reads of whole files"
    yield Measurement(
        "reading photo by photo, from disk", megabytes / spent, "MB/s", peer, megabytes / by_plain, goal=0.5
    )


def _memory(sizes: Sizes) -> Iterator[Measurement]:
    """Peak memory of driver, Ray and workers together, for few and for many photos."""
    few, many = (measure.in_fresh_process(_peak_gib, count) for count in (sizes.few_photos, sizes.many_photos))
    what = f"peak memory of an extraction, {sizes.many_photos:,} photos"
    yield Measurement(what, many, "GiB", f"{sizes.few_photos:,} photos", few, "lower", goal=1 / 1.2)


def _peak_gib(count: int) -> float:
    """Peak memory of the extraction of that many photos."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = _write_photos(Path(folder, "photos"), count)
        config = ExtractConfig(f"{folder}/features", "tests.support.tiny_detector:TinyDetector")
        return tree_peak_gib(lambda: extract(manifest, config, ClusterConfig(), lambda _: None))
