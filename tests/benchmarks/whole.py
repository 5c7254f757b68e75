"""Flickr30K's whole test split, 1,000 x 5,000, from float16 features on disk to a kept matrix.

`python -m tests.benchmarks.whole [fp32|bf16]` takes six to ten minutes and is not part of `make bench`.
Random weights and features at full size.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from shan_model.score_file import ScoreFile
from shan_model.scoring import MEMORY, score_matrix
from tests.benchmarks.inputs import FEATURES, REGIONS, network, sentences
from tests.benchmarks.measure import gib

PHOTOS, CAPTIONS = 1000, 5000


def main(precision: str) -> None:
    """Scores and says how long, and in how much memory."""
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "regions.npy"
        np.save(stored, np.random.default_rng(0).standard_normal((PHOTOS, REGIONS, FEATURES)).astype(np.float16))
        features, model, texts = np.load(stored, mmap_mode="r"), network(), sentences(CAPTIONS)
        before, start = gib("VmRSS"), time.perf_counter()
        out = ScoreFile(Path(folder) / "scores.npy", "benchmark")
        with tqdm(total=PHOTOS * CAPTIONS, unit="pair", unit_scale=True) as bar:
            score_matrix(model, features, texts, precision=precision, out=out, progress=bar.update)
        spent = time.perf_counter() - start
    pairs, mapped = PHOTOS * CAPTIONS, (2 * PHOTOS * REGIONS * FEATURES + 4 * PHOTOS * CAPTIONS) / 2**30
    print(f"{PHOTOS:,} x {CAPTIONS:,} {precision}, {torch.get_num_threads()} threads")
    print(f"{spent / 60:.1f} minutes, {pairs / spent:,.0f} pairs/s")
    print(f"{gib('VmHWM') - before:.2f} GiB beyond the model, of which mapped files at most {mapped:.2f}")
    print(f"memory budget {MEMORY / 2**30:g} GiB")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "fp32")
