"""A registered model given rows of regions and captions, against the batched scorer and against one row at a time."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipelines.models.params import Params
from shan_model.scoring import score_matrix
from tests.benchmarks import measure
from tests.benchmarks.inputs import network, sentences
from tests.benchmarks.measure import seconds
from tests.benchmarks.report import Benchmark, Measurement
from tests.benchmarks.sizes import Sizes
from tests.support.registered import imported_features, matcher


def benchmarks(sizes: Sizes) -> list[Benchmark]:
    """The benchmarks of this file."""
    memory = Benchmark("memory of the registered model", lambda: _memory(sizes))
    return [Benchmark("registered model", lambda: _rows(sizes)), memory]


def _rows(sizes: Sizes) -> Iterator[Measurement]:
    """Every photo with every caption, one pair a row."""
    features, texts, frame = _inputs(sizes)
    few = frame[: sizes.reference_captions]
    with TemporaryDirectory() as folder:
        model = matcher(Path(folder), network(sizes).eval(), imported_features())
    with torch.inference_mode():
        by_rows, by_scorer, one_by_one = seconds(
            lambda: model.predict(frame, None),
            lambda: score_matrix(model.shan, features, texts),
            lambda: [model.predict(few[n : n + 1], None) for n in range(len(few))],
            rounds=1,
        )
    what = f"registered model, {len(frame):,} rows of {len(features):,} photos and {len(texts)} captions"
    rate = len(frame) / by_rows
    yield Measurement(what, rate, "pairs/s", "batched scorer", len(frame) / by_scorer, goal=0.8)
    yield Measurement(what, rate, "pairs/s", "one row a call", len(few) / one_by_one)


def _memory(sizes: Sizes) -> Iterator[Measurement]:
    """Peak memory of a call beyond its rows and the network, at the default batch size and at four times as much."""
    default, larger = Params.batch_size, 4 * Params.batch_size
    first, found = (measure.in_fresh_process(_peak_gib, size, sizes) for size in (default, larger))
    yield Measurement(
        f"peak memory of a call with batch_size {larger}", found, "GiB", f"batch_size {default}", first, "lower"
    )


def _peak_gib(batch_size: int, sizes: Sizes) -> float:
    """Peak memory of a call beyond that before it."""
    _, _, frame = _inputs(sizes)
    with TemporaryDirectory() as folder:
        model = matcher(Path(folder), network(sizes).eval(), imported_features())
    before = measure.gib("VmHWM")
    model.predict(frame, {"batch_size": batch_size})
    return measure.gib("VmHWM") - before


def _inputs(sizes: Sizes) -> tuple[NDArray[np.float32], list[str], pd.DataFrame]:
    """Returns features and captions, and every pair of them as a row."""
    shape = sizes.given_photos, sizes.regions, sizes.feature_dim
    features = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    texts = sentences(sizes.given_captions, sizes.words)
    rows = [{"regions": regions, "caption": text} for regions in list(features) for text in texts]
    return features, texts, pd.DataFrame(rows)
