"""Scoring all pairs: equal to the forward pass for any blocks, within the memory budget."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from shan_model.blocks import Blocks
from shan_model.model import SHAN
from shan_model.scoring import score_blocks, score_matrix
from tests.shan_model.test_blocks import LITTLE, regions


def test_equals_the_forward_pass_of_the_model(model: SHAN, captions):
    with torch.no_grad():
        expected = model(torch.from_numpy(regions()), captions).numpy()
    scores = score_matrix(model, regions(), captions)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("photo_edges", [(0, 5), (0, 1, 2, 3, 4, 5), (0, 2, 5)])
@pytest.mark.parametrize("caption_edges", [(0, 4), (0, 1, 2, 3, 4), (0, 3, 4)])
def test_blocks_of_any_size_give_the_same_scores(model, captions, photo_edges, caption_edges):
    blocks = Blocks(photo_edges, caption_edges, np.array([2, 0, 3, 1]))
    wanted = {(i, j) for i in range(len(photo_edges) - 1) for j in range(len(caption_edges) - 1)}
    scores = np.full((5, 4), np.nan, dtype=np.float32)
    for i, j, block in score_blocks(model, regions(), captions, blocks, wanted):
        assert block.size == blocks.size(i, j)
        scores[blocks.rows(i), blocks.columns(j)] = block
    np.testing.assert_allclose(scores, score_matrix(model, regions(), captions), rtol=0, atol=1e-6)


ALLOCATOR_MIB = 16
"""What the allocator keeps beside the tensors in use; it differs between kinds of CPU."""
GROWTH = """
import re, sys
from pathlib import Path
import numpy as np, torch
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.scoring import score_matrix
from shan_model.vocabulary import Vocabulary

def mib(field):
    return int(re.search(rf"{field}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

torch.set_num_threads(1)
width, photos, sentences, memory = (int(x) for x in sys.argv[1:])
config = ModelConfig(joint_dim=width, word_dim=16, region_dim=64, levels="l2l", gate="scalar")
model = SHAN(config, Vocabulary.build(["w1 w2 w3 w4 w5 w6 w7 w8 w9"])).eval()
captions = ["w1 w2 w3 w4 w5 w6 w7 w8"] * sentences + [" ".join(["w9"] * 498)]
regions = np.random.default_rng(0).standard_normal((photos, 36, 64), dtype=np.float32)
score_matrix(model, regions[:2], captions[:2])
before = mib("VmRSS")
scores = score_matrix(model, regions, captions, memory=memory << 20)
print(mib("VmHWM") - before - scores.nbytes / 2**20)
"""


@pytest.mark.parametrize(
    ("width", "photos", "sentences", "memory"),
    [(256, 60, 1500, 200), pytest.param(16, 600, 600, 60, marks=pytest.mark.long)],
)
def test_memory_stays_within_the_budget(width, photos, sentences, memory):
    """One caption of 500 words among many short ones; many photos at a small width. MiB beside the matrix itself."""
    command = [sys.executable, "-c", GROWTH, *map(str, (width, photos, sentences, memory))]
    grown = float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert memory / 20 < grown < memory + ALLOCATOR_MIB


def test_progress_counts_every_pair_once(model, captions):
    added: list[int] = []
    score_matrix(model, regions(600), captions * 50, memory=LITTLE, progress=added.append)
    assert sum(added) == 600 * 200
    assert len(added) > 4


class Ragged:
    """Photos with different numbers of regions."""

    def __init__(self, lengths: list[int]) -> None:
        draw = np.random.default_rng(0)
        self.photos = [draw.standard_normal((n, 12)).astype(np.float16) for n in lengths]

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, rows: slice) -> list[np.ndarray]:
        return self.photos[rows]


def test_photos_with_different_numbers_of_regions(model, captions):
    ragged = Ragged([10, 100, 37, 10, 1])
    scores = score_matrix(model, ragged, captions)
    with torch.no_grad():
        expected = np.concatenate([model(torch.from_numpy(x)[None], captions).numpy() for x in ragged.photos])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=2e-6)


def test_bf16_products_keep_nearly_every_rank(model, captions):
    photos, sentences = regions(40), captions * 3
    exact, rough = (score_matrix(model, photos, sentences, precision=p) for p in ("fp32", "bf16"))
    assert 0 < np.abs(exact - rough).max() < 0.05
    for column, other in zip(exact.T, rough.T, strict=True):
        assert spearman(column, other) > 0.99


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x.argsort().argsort(), y.argsort().argsort())[0, 1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_scores_features_of_a_read_only_memory_map(model, captions, dtype, tmp_path):
    np.save(tmp_path / "regions.npy", regions(dtype=dtype))
    on_disk = np.load(tmp_path / "regions.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score_matrix(model, on_disk, captions)
    in_memory = score_matrix(model, regions(dtype=dtype).astype(np.float32), captions)
    np.testing.assert_array_equal(scores, in_memory)


def test_one_photo_with_one_caption(model):
    assert score_matrix(model, regions(1), ["a dog"]).shape == (1, 1)
    assert np.isfinite(score_matrix(model, regions(1), [""])).all()


def test_no_photos_or_no_captions_give_an_empty_matrix(model, captions):
    assert score_matrix(model, regions(0), captions).shape == (0, len(captions))
    assert score_matrix(model, regions(), []).shape == (5, 0)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode_and_can_still_be_trained(model, captions, training):
    model.train(training)
    score_matrix(model, regions(), captions)
    assert all(module.training is training for module in model.modules())
    model(torch.from_numpy(regions()), captions).sum().backward()
