"""Imports of precomputed features against what a disk asks at least: the source read once, the result written once."""

import base64
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pipelines.features.precomputed.export import export_scan
from pipelines.features.precomputed.scan import import_scan
from pipelines.features.precomputed.shard_import import Imported
from pipelines.features.precomputed.tsv import import_tsv
from tests.benchmarks.inputs import FEATURES, REGIONS
from tests.benchmarks.measure import Row, forget

PHOTOS, PER_SHARD, ROUNDS = 1024, 32, 5


def rows() -> Iterator[Row]:
    """Every figure of this file. Files lie in the temporary folder: set TMPDIR to measure another disk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan, tsv, dataset = _sources(folder)
        output = folder / "out"
        kinds: list[tuple[str, Path, Callable[[], Imported]]] = [
            ("SCAN .npy", scan / "train_ims.npy", lambda: import_scan(scan, str(output), "d", PER_SHARD, _quiet)),
            ("bottom-up TSV", tsv, lambda: import_tsv(tsv, dataset, str(output), PER_SHARD, _quiet)),
        ]
        for kind, source, run in kinds:
            yield from _import_rows(kind, source, output, run)
        features = import_scan(scan, str(output), "d", PER_SHARD, _quiet).feature_set
        there = folder / "there"
        spent = min(_timed(lambda: export_scan(features, there, _quiet), there) for _ in range(ROUNDS))
        yield Row("export to SCAN .npy", (scan / "train_ims.npy").stat().st_size / spent / 1e6, "MB/s written")


def _import_rows(kind: str, source: Path, output: Path, run: Callable[[], Imported]) -> Iterator[Row]:
    """Import and plain copy take turns, least seconds of each; then a rerun, which has nothing to write."""
    megabytes = source.stat().st_size / 1e6
    ours, plain = float("inf"), float("inf")
    written = 0
    for _ in range(ROUNDS):
        forget(source)
        ours = min(ours, _timed(run, output, keep=True))
        written = sum(path.stat().st_size for path in output.rglob("*.tar"))
        forget(source)
        plain = min(plain, _timed(lambda: _plain(source, output, written), output.with_name("plain")))  # noqa: B023
        again = _timed(run, None)
        shutil.rmtree(output)
    yield Row(f"import of {kind}, {megabytes:.0f} MB", megabytes / ours, "MB/s of source")
    yield Row(f"{kind}: plain read of it and write of {written / 1e6:.0f} MB", megabytes / plain, "MB/s of source")
    yield Row(f"{kind}: import against plain read and write", 100 * plain / ours, "%")
    yield Row(f"{kind}: rerun with nothing to do", megabytes / again, "MB/s of source")


def _timed(function: Callable[[], object], output: Path | None, keep: bool = False) -> float:
    """Seconds of a call that begins with what is written safe on the disk; what it makes is removed unless kept."""
    os.sync()
    start = time.perf_counter()
    function()
    spent = time.perf_counter() - start
    if output is not None and not keep:
        shutil.rmtree(output)
    return spent


def _plain(source: Path, output: Path, size: int) -> None:
    """Reads the source in pieces of 8 MiB and writes so many bytes in files as large as a shard, each made safe."""
    with source.open("rb", buffering=0) as file:
        while len(file.read(8 << 20)):
            pass
    folder = output.with_name("plain")
    folder.mkdir()
    shard = bytes(PER_SHARD * REGIONS * FEATURES * 2)
    for number in range(size // len(shard)):
        with (folder / str(number)).open("wb") as out:
            out.write(shard)
            out.flush()
            os.fsync(out.fileno())


def _sources(folder: Path) -> tuple[Path, Path, Path]:
    """A folder in SCAN's layout, a TSV of the same features, and its data set file."""
    scan, tsv, dataset = folder / "in", folder / "a.tsv", folder / "dataset.json"
    scan.mkdir()
    features = np.random.default_rng(0).standard_normal((PHOTOS, REGIONS, FEATURES), dtype=np.float32)
    np.maximum(features, 0, out=features)  # as after the network's last ReLU
    np.save(scan / "train_ims.npy", features)
    (scan / "train_caps.txt").write_text("a caption of ten words, as long as they are\n" * (5 * PHOTOS))
    boxes = base64.b64encode(np.tile(np.array([0, 0, 99, 99], np.float32), (REGIONS, 1)).tobytes()).decode()
    with tsv.open("w") as file:
        for number, photo in enumerate(features):
            row = (number, 640, 480, REGIONS, boxes, base64.b64encode(photo.tobytes()).decode())
            file.write("\t".join(map(str, row)) + "\n")
    sentences = [{"raw": "a caption of ten words, as long as they are"}] * 5
    images = [{"filename": f"{number}.jpg", "split": "train", "sentences": sentences} for number in range(PHOTOS)]
    dataset.write_text(json.dumps({"dataset": "d", "images": images}))
    return scan, tsv, dataset


def _quiet(_: int) -> None:
    """No bar."""
