"""Imports of precomputed features, against the least that a disk has to do: read the source, write the result."""

import base64
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.features.precomputed.export_scan import export_scan
from pipelines.features.precomputed.scan import import_scan
from pipelines.features.precomputed.shard_import import Imported
from pipelines.features.precomputed.tsv import import_tsv
from tests.benchmarks.measure import drop_from_page_cache
from tests.benchmarks.report import Benchmark, Measurement
from tests.benchmarks.sizes import FULL, Sizes

PER_SHARD, ROUNDS = 32, 5
CAPTION = "a caption of ten words, as long as they are"


class Sources(NamedTuple):
    """The same features in both layouts that can be imported."""

    scan: Path
    """Folder in SCAN's format."""
    tsv: Path
    dataset: Path
    """Karpathy JSON of the photos in the TSV."""


def benchmarks(sizes: Sizes) -> list[Benchmark]:
    """The benchmarks of this file. Files are written to the temporary folder; TMPDIR chooses another disk."""
    return [
        Benchmark("import of SCAN .npy", lambda: _import_of_scan(sizes)),
        Benchmark("import of bottom-up TSV", lambda: _import_of_tsv(sizes)),
        Benchmark("export to SCAN .npy", lambda: _export(sizes)),
    ]


def _import_of_scan(sizes: Sizes) -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        sources, output = _write_sources(Path(folder), sizes), Path(folder, "out")
        source = sources.scan / "train_ims.npy"
        run = lambda: import_scan(sources.scan, str(output), "d", PER_SHARD, _ignore)  # noqa: E731
        yield from _import_rows("SCAN .npy", source, output, run, sizes)


def _import_of_tsv(sizes: Sizes) -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        sources, output = _write_sources(Path(folder), sizes), Path(folder, "out")
        run = lambda: import_tsv(sources.tsv, sources.dataset, str(output), PER_SHARD, _ignore)  # noqa: E731
        yield from _import_rows("bottom-up TSV", sources.tsv, output, run, sizes)


def _export(sizes: Sizes) -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources, target = _write_sources(folder, sizes), folder / "exported"
        features = import_scan(sources.scan, str(folder / "out"), "d", PER_SHARD, _ignore).feature_set
        size = (sources.scan / "train_ims.npy").stat().st_size
        spent, plain = float("inf"), float("inf")
        for _ in range(_rounds(sizes)):
            spent = min(spent, _timed(lambda: export_scan(features, target, _ignore), target))
            plain = min(plain, _timed(lambda: _write_plainly(target, size, 8 << 20), target))
        peer = "plain write of as many bytes"
        yield Measurement("export to SCAN .npy", size / spent / 1e6, "MB/s", peer, size / plain / 1e6)


def _import_rows(
    kind: str, source: Path, output: Path, run: Callable[[], Imported], sizes: Sizes
) -> Iterator[Measurement]:
    """Import and plain copy take turns, and the least seconds of each count; then a rerun with nothing to write."""
    megabytes, plain_copy = source.stat().st_size / 1e6, output.with_name("plain")
    spent, plain, rerun, written = float("inf"), float("inf"), float("inf"), 0

    def copy() -> None:
        _read_plainly(source)
        _write_plainly(plain_copy, written, PER_SHARD * sizes.regions * sizes.feature_dim * 2)

    for _ in range(_rounds(sizes)):
        drop_from_page_cache(source)
        spent = min(spent, _timed(run, None))
        written = sum(path.stat().st_size for path in output.rglob("*.tar"))
        drop_from_page_cache(source)
        plain = min(plain, _timed(copy, plain_copy))
        rerun = min(rerun, _timed(run, None))
        shutil.rmtree(output)
    peer = f"plain read and write of {written / 1e6:.0f} MB"
    yield Measurement(
        f"import of {kind}, {megabytes:.0f} MB", megabytes / spent, "MB/s of source", peer, megabytes / plain
    )
    yield Measurement(f"import of {kind}, nothing to do", rerun, "s", "first import", spent, "lower")


def _rounds(sizes: Sizes) -> int:
    return ROUNDS if sizes == FULL else 1


def _timed(function: Callable[[], object], output: Path | None) -> float:
    """Seconds of a call, started after earlier writes have reached the disk; then removes `output` if given."""
    os.sync()
    start = time.perf_counter()
    function()
    spent = time.perf_counter() - start
    if output is not None:
        shutil.rmtree(output)
    return spent


def _read_plainly(source: Path) -> None:
    """Reads a file in pieces of 8 MiB."""
    with source.open("rb", buffering=0) as file:
        while len(file.read(8 << 20)):
            pass


def _write_plainly(folder: Path, size: int, file_size: int) -> None:
    """Writes about `size` bytes in files of `file_size`, each with fsync."""
    folder.mkdir()
    data = bytes(file_size)
    for number in range(size // file_size):
        with (folder / str(number)).open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())


def _write_sources(folder: Path, sizes: Sizes) -> Sources:
    count = sizes.imported_photos
    sources = Sources(folder / "in", folder / "a.tsv", folder / "dataset.json")
    sources.scan.mkdir()
    features = np.random.default_rng(0).standard_normal((count, sizes.regions, sizes.feature_dim), dtype=np.float32)
    np.maximum(features, 0, out=features)  # as after the last ReLU of a detector
    np.save(sources.scan / "train_ims.npy", features)
    (sources.scan / "train_caps.txt").write_text(f"{CAPTION}\n" * (5 * count))
    boxes_R4 = np.tile(np.array([0, 0, 99, 99], np.float32), (sizes.regions, 1))
    boxes = base64.b64encode(boxes_R4.tobytes()).decode()
    with sources.tsv.open("w") as file:
        for number, photo in enumerate(features):
            row = (number, 640, 480, sizes.regions, boxes, base64.b64encode(photo.tobytes()).decode())
            file.write("\t".join(map(str, row)) + "\n")
    sentences = [{"raw": CAPTION}] * 5
    images = [{"filename": f"{number}.jpg", "split": "train", "sentences": sentences} for number in range(count)]
    sources.dataset.write_text(json.dumps({"dataset": "d", "images": images}))
    return sources


def _ignore(_: int) -> None:
    """Ignores progress."""
