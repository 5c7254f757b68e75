"""A registered model given rows of regions and captions, against the batched scorer and against one row at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipelines.models.params import Params
from shan_model.model import SHAN
from shan_model.scoring import score_matrix
from tests.benchmarks import measure
from tests.benchmarks.inputs import network, sentences
from tests.benchmarks.measure import seconds
from tests.benchmarks.report import Benchmark, Measurement
from tests.benchmarks.sizes import Sizes
from tests.support.registered import imported_features, save_version


def benchmarks(sizes: Sizes) -> list[Benchmark]:
    """The benchmarks of this file."""
    memory = Benchmark("memory of the registered model", lambda: _memory(sizes))
    return [Benchmark("registered model", lambda: _rows(sizes)), memory]


def _rows(sizes: Sizes) -> Iterator[Measurement]:
    """Every photo with every caption, one pair a row."""
    features, texts, frame = _inputs(sizes)
    few, shan = frame[: sizes.reference_captions], network(sizes).eval()
    with _loaded(shan) as model, torch.inference_mode():
        by_rows, by_scorer, one_by_one = seconds(
            lambda: model.predict(frame),
            lambda: score_matrix(shan, features, texts),
            lambda: [model.predict(few[n : n + 1]) for n in range(len(few))],
            rounds=1,
        )
    what = f"registered model, {len(frame):,} rows of {len(features):,} photos and {len(texts)} captions"
    rate = len(frame) / by_rows
    yield Measurement(what, rate, "pairs/s", "batched scorer", len(frame) / by_scorer, goal=0.8)
    yield Measurement(what, rate, "pairs/s", "one row a call", len(few) / one_by_one)


def _memory(sizes: Sizes) -> Iterator[Measurement]:
    """Peak memory of a call beyond its rows and the network, at several batch sizes, and that of the batched scorer."""
    default = Params.batch_size
    scorer = measure.in_fresh_process(_peak_gib, None, sizes)
    for size in (default // 8, default, 4 * default):
        found = measure.in_fresh_process(_peak_gib, size, sizes)
        yield Measurement(
            f"peak memory of a call with batch_size {size}", found, "GiB", "batched scorer", scorer, "lower"
        )


def _peak_gib(batch_size: int | None, sizes: Sizes) -> float:
    """Peak memory of a call beyond that before it; of the batched scorer without a batch size."""
    features, texts, frame = _inputs(sizes)
    shan = network(sizes).eval()
    with _loaded(shan) as model, torch.inference_mode():
        before = measure.gib("VmHWM")
        if batch_size is None:
            score_matrix(shan, features, texts)
        else:
            model.predict(frame, {"batch_size": batch_size})
        return measure.gib("VmHWM") - before


@contextmanager
def _loaded(shan: SHAN) -> Iterator[Any]:
    """Yields the model as MLflow loads it, for features that no detector of the project made."""
    import mlflow

    with TemporaryDirectory() as folder:
        yield mlflow.pyfunc.load_model(str(save_version(Path(folder), shan, imported_features())))


def _inputs(sizes: Sizes) -> tuple[NDArray[np.float32], list[str], pd.DataFrame]:
    """Returns features and captions, and every pair of them as a row."""
    shape = sizes.given_photos, sizes.regions, sizes.feature_dim
    features = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    texts = sentences(sizes.given_captions, sizes.words)
    rows = [{"regions": regions, "caption": text} for regions in list(features) for text in texts]
    return features, texts, pd.DataFrame(rows)
