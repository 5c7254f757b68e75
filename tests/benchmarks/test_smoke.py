"""Every benchmark that needs no GPU at tiny sizes, so that a change elsewhere cannot break one unnoticed."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from infra.storage.folder import FolderStore
from jobs import cli
from pipelines.models.load import load_model
from pipelines.search.index import EncodedQueries, SearchIndex
from shan_model.model import SHAN
from tests.benchmarks import (
    bf16_ranks,
    composed_index,
    full_split,
    measure,
    model_comparison,
    quantized_search,
    search_recall,
)
from tests.benchmarks.__main__ import FILES, main
from tests.benchmarks.report import Benchmark, Measurement, run
from tests.benchmarks.sizes import SMOKE
from tests.support import feature_sets
from tests.support.indexes import build_here, loaded
from tests.support.small_models import model, small_set

BENCHMARKS = {benchmark.name: benchmark for file in FILES.values() for benchmark in file.benchmarks(SMOKE)}
ON_RAY = ("extraction of many photos", "memory of an extraction", "extraction on Ray Data")
SLOW = "memory of the registered model"


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the start of the processes of their own, whose memory is measured in `make bench`."""
    monkeypatch.setattr(measure, "in_fresh_process", lambda function, *args, **kwargs: function(*args, **kwargs))


def check(benchmark: Benchmark) -> None:
    results = list(run([benchmark]))
    assert results
    assert all(isinstance(result, Measurement) for result in results)


@pytest.mark.parametrize(
    "name", [*sorted(BENCHMARKS.keys() - {*ON_RAY, SLOW}), pytest.param(SLOW, marks=pytest.mark.long)]
)
@pytest.mark.usefixtures("in_this_process")
def test_it_runs(name: str):
    check(BENCHMARKS[name])


@pytest.mark.long
@pytest.mark.parametrize("name", ON_RAY)
@pytest.mark.usefixtures("in_this_process", "ray_session")
def test_it_runs_on_ray(name: str):
    check(BENCHMARKS[name])


def test_the_command_prints_and_stores_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "docs" / "results.md"
    results.parent.mkdir()
    results.write_text("# Results\n")
    assert main(["precomputed"], SMOKE) == 0
    rows = json.loads((tmp_path / "build" / "bench.json").read_text())["results"]
    assert [row["unit"] for row in rows] == ["MB/s of source", "s", "MB/s of source", "s", "MB/s"]
    lines = results.read_text().splitlines()
    assert lines[0] == "# Results"
    assert lines[2].startswith("## `make bench`, 2")
    assert len(lines) == 4 + 2 + len(rows)
    assert lines[-1] in capsys.readouterr().out


def test_the_full_split_is_scored_at_any_size(capsys: pytest.CaptureFixture[str]):
    full_split.main("bf16", photos=5, captions=9, sizes=SMOKE)
    assert capsys.readouterr().out.startswith("5 x 9 bf16, ")


@pytest.mark.parametrize("name", model_comparison.MODELS)
def test_the_options_of_compared_models_are_valid(name: str):
    options = [*model_comparison.BUDGET, *model_comparison.MODELS[name]]
    sections = ("model", "train", "cache", "cluster")
    assert cli.parse("train", "", lambda _: None, sections, options)[1].train.epochs == 10


@pytest.mark.long
def test_the_comparison_prints_recalls_and_pointing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    photos = feature_sets.manifest(tmp_path, 12, said="a circle in photo")
    features, output, objects = feature_sets.write_set(tmp_path, photos), tmp_path / "out", tmp_path / "objects.json"
    circle = {"shape": "circle", "box": [0, 0, feature_sets.WIDTH, feature_sets.HEIGHT]}
    objects.write_text(json.dumps({"photos": {photo.source: {"objects": [circle]} for photo in photos.photos()}}))
    tiny = [f"--model.region_dim={feature_sets.FEATURE_DIM}", "--model.joint_dim=8", "--model.word_dim=8"]
    tiny += ["--train.epochs=1", "--train.batch_size=4"]
    monkeypatch.setattr(model_comparison, "BUDGET", tiny)
    arguments = ["--features", features.uri, "--objects", str(objects), "--output", str(output)]
    arguments += ["--models", "VSE++", "SCAN t2i", "--seeds", "0", "1"]
    model_comparison.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    names = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert names == ["model", "VSE++", "SCAN t2i", "random baseline"]
    (second,) = [line for line in lines if line.startswith("| SCAN t2i |")]
    assert re.search(r"\| [+-]\d+\.\d \([+-]\d+\.\d to [+-]\d+\.\d\) \|", second)
    assert lines[-1] == "Pointing: 2 words that name exactly one object of their photo."


def test_recall_of_an_index_is_measured_in_both_directions(tmp_path: Path):
    features = small_set(tmp_path / "features", 60)
    built = build_here(loaded(tmp_path / "model", features), [features], tmp_path / "indexes")
    index = SearchIndex.open(built.uri, load_model(None, built.document.model.uri))
    rows = search_recall.measure(index, "test", 8, index)
    assert rows.pop(0)[:5] == ["photos", "59", "all, of the other index", "100.0 %", "100.00 %"]
    assert rows.pop(3)[:5] == ["captions", "118", "all, of the other index", "100.0 %", "100.00 %"]
    assert [(row[0], row[2]) for row in rows] == [
        *(("photos", count) for count in ("10", "20", "50")),
        *(("captions", count) for count in ("10", "20", "50", "100")),
    ]
    assert rows[2][-1] == "1/1"
    assert float(rows[0][3].split()[0]) <= float(rows[2][3].split()[0]) <= 100


def test_a_composed_index_has_any_number_of_photos(tmp_path: Path):
    features = small_set(tmp_path / "features", 60)
    built = build_here(loaded(tmp_path / "model", features), [features], tmp_path / "indexes")
    model_ = load_model(None, built.document.model.uri)
    source, output = SearchIndex.open(built.uri, model_), FolderStore(tmp_path / "composed")
    document = composed_index.compose(source, built.document, output, 200)
    held = SearchIndex.of(output, document, model_).gallery("photos")
    real = source.gallery("photos").total
    assert real < held.total == 200
    assert [bool(held.item(row).captions) for row in (0, real - 1, real, 199)] == [True, True, False, False]
    (first,), (same,) = (gallery.vectors(np.array([3])) for gallery in (source.gallery("photos"), held))
    assert (first == same).all()


@pytest.mark.long  # k-means of every form
def test_quantized_vectors_keep_less_than_exact_ones():
    pooled_ND = np.random.default_rng(0).standard_normal((1000, 32), np.float32)
    queries = EncodedQueries([], pooled_ND[:20])
    best_QT = np.argsort(-queries.pooled_QD @ pooled_ND.T, axis=1)[:, :10]
    built = [quantized_search.build(form, pooled_ND) for form in quantized_search.forms(32)]
    assert (quantized_search.forms(32)[0], quantized_search.forms(32)[-1]) == ("SQfp16", "PQ4")
    assert (built[0].code_size, built[-1].code_size) == (64, 4)
    exact, *_, smallest = (quantized_search.measure(index, 1000, queries, best_QT) for index in built)
    assert exact[1:] == ["100.0 %"] * 3
    assert float(smallest[1].split()[0]) < 100


def test_ranks_in_bf16_are_compared_in_both_directions(tmp_path: Path):
    features = small_set(tmp_path / "features", 60)
    small = model(features)
    scan = SHAN(replace(small.config, matcher="scan-t2i"), small.vocabulary).eval()
    photos, captions = bf16_ranks.measure(scan, features.split("test"))
    count = len(features.split("test"))
    assert (photos[:2], captions[:2]) == (["photos", f"{2 * count}"], ["captions", f"{count}"])
    assert 0 < float(photos[2]) < 0.01
    assert float(captions[-1].split()[0]) > 90


def test_a_file_of_benchmarks_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["scaling"])
    assert caught.value.code == 2
    assert "no such file: scaling; give some of scoring, " in capsys.readouterr().err


def test_a_fresh_process_has_its_own_peak_and_raises_errors():
    here = bytearray(1 << 29)
    here[::4096] = b"x" * len(here[::4096])
    assert measure.gib("VmHWM") > 0.5
    assert measure.in_fresh_process(measure.gib, "VmHWM") < 0.3
    with pytest.raises(FileNotFoundError):
        measure.in_fresh_process(os.stat, "/no/such/file")


def test_a_fresh_process_that_is_killed_is_an_error():
    with pytest.raises(BrokenProcessPool):
        measure.in_fresh_process(os._exit, 9)


def test_the_peak_of_a_call_includes_processes_that_it_starts():
    """In processes of their own, as the servers of a session grow and shrink below this one."""
    start = [sys.executable, "-c", "import time; data = b'x' * (1 << 28); time.sleep(0.6)"]
    idle = measure.in_fresh_process(measure.tree_peak_gib, os.getpid)
    assert measure.in_fresh_process(measure.tree_peak_gib, partial(subprocess.run, start, check=True)) > idle + 0.25
