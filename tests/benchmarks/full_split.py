"""Flickr30K's full test split, 1,000 x 5,000 pairs, from float16 features on disk into a score cache.

`python -m tests.benchmarks.full_split [fp32|bf16]` takes six to ten minutes and is not part of `make bench`. Weights
and features are random, at full size.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from shan_model.score_cache import ScoreCache
from shan_model.scoring import MEMORY, score_matrix
from tests.benchmarks.inputs import network, sentences
from tests.benchmarks.measure import gib
from tests.benchmarks.sizes import FULL, Sizes

PHOTOS, CAPTIONS = 1000, 5000


def main(precision: str, photos: int = PHOTOS, captions: int = CAPTIONS, sizes: Sizes = FULL) -> None:
    """Scores the split and prints time, throughput and peak memory."""
    pairs, shape = photos * captions, (photos, sizes.regions, sizes.feature_dim)
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "regions.npy"
        np.save(stored, np.random.default_rng(0).standard_normal(shape).astype(np.float16))
        features, model, texts = np.load(stored, mmap_mode="r"), network(sizes), sentences(captions, sizes.words)
        before, start = gib("VmRSS"), time.perf_counter()
        cache = ScoreCache(Path(folder) / "scores.npy", "benchmark")
        with tqdm(total=pairs, unit="pair", unit_scale=True) as bar:
            score_matrix(model, features, texts, precision=precision, cache=cache, progress=bar.update)
        spent = time.perf_counter() - start
    mapped = (2 * features.size + 4 * pairs) / 2**30
    print(f"{photos:,} x {captions:,} {precision}, {torch.get_num_threads()} threads")
    print(f"{spent / 60:.1f} minutes, {pairs / spent:,.0f} pairs/s")
    print(f"{gib('VmHWM') - before:.2f} GiB beyond the model, of which mapped files at most {mapped:.2f}")
    print(f"memory budget {MEMORY / 2**30:g} GiB")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "fp32")
