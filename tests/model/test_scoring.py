import warnings

import numpy as np
import pytest
import torch

from shan_model.model import SHAN
from shan_model.scoring import score_matrix


def regions(photos: int = 5, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((photos, 3, 12)).astype(dtype)


def test_equals_the_forward_pass_of_the_model(model: SHAN, captions):
    with torch.no_grad():
        expected = model(torch.from_numpy(regions()), captions).numpy()
    scores = score_matrix(model, regions(), captions)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("photos_per_block", [1, 2, 5, 100])
@pytest.mark.parametrize("captions_per_block", [1, 3, 4, 100])
def test_blocks_of_any_size_give_the_same_scores(model, captions, photos_per_block, captions_per_block):
    added: list[int] = []
    scores = score_matrix(
        model,
        regions(),
        captions,
        photos_per_block=photos_per_block,
        captions_per_block=captions_per_block,
        progress=added.append,
    )
    np.testing.assert_allclose(scores, score_matrix(model, regions(), captions), rtol=0, atol=1e-6)
    assert sum(added) == 5 * len(captions)
    assert len(added) == -(-5 // photos_per_block) * -(-len(captions) // captions_per_block)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_reads_features_that_lie_read_only_on_disk(model, captions, dtype, tmp_path):
    np.save(tmp_path / "regions.npy", regions(dtype=dtype))
    on_disk = np.load(tmp_path / "regions.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score_matrix(model, on_disk, captions, photos_per_block=2)
    in_memory = score_matrix(model, regions(dtype=dtype).astype(np.float32), captions, photos_per_block=2)
    np.testing.assert_array_equal(scores, in_memory)


def test_one_photo_with_one_sentence(model):
    assert score_matrix(model, regions(1), ["a dog"]).shape == (1, 1)
    assert np.isfinite(score_matrix(model, regions(1), [""])).all()


def test_nothing_to_score_gives_an_empty_matrix(model, captions):
    assert score_matrix(model, regions(0), captions).shape == (0, len(captions))
    assert score_matrix(model, regions(), []).shape == (5, 0)


@pytest.mark.parametrize("training", [True, False])
def test_leaves_the_model_in_the_mode_it_came_in_and_fit_to_train(model, captions, training):
    model.train(training)
    score_matrix(model, regions(), captions)
    assert all(module.training is training for module in model.modules())
    model(torch.from_numpy(regions()), captions).sum().backward()
