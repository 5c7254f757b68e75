"""A registered model given rows of regions and captions, against the batched scorer and against one row at a time."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

from shan_model.scoring import score_matrix
from tests.benchmarks.inputs import network, sentences
from tests.benchmarks.measure import seconds
from tests.benchmarks.report import Benchmark, Measurement
from tests.benchmarks.sizes import Sizes
from tests.support.registered import imported_features, matcher


def benchmarks(sizes: Sizes) -> list[Benchmark]:
    """The benchmark of this file."""
    return [Benchmark("registered model", lambda: _rows(sizes))]


def _rows(sizes: Sizes) -> Iterator[Measurement]:
    """Every photo with every caption, one pair a row."""
    shape = sizes.given_photos, sizes.regions, sizes.feature_dim
    features = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    texts = sentences(sizes.given_captions, sizes.words)
    frame = pd.DataFrame([{"regions": regions, "caption": text} for regions in list(features) for text in texts])
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
    what = f"registered model, {len(frame):,} rows of {shape[0]:,} photos and {len(texts)} captions"
    rate = len(frame) / by_rows
    yield Measurement(what, rate, "pairs/s", "batched scorer", len(frame) / by_scorer, goal=0.8)
    yield Measurement(what, rate, "pairs/s", "one row a call", len(few) / one_by_one)
