"""What all baselines have in common, as matchers of batches and of the complete model.

`tests/shan_model/baselines` compares each with its equations.
"""

import numpy as np
import pytest
import torch

from shan_model import batched_matcher
from shan_model.bundle import load_bundle, save_bundle
from shan_model.config import ModelConfig
from shan_model.loss import ranking_loss
from shan_model.model import SHAN
from shan_model.objective import RankingObjective
from shan_model.vocabulary import Vocabulary
from tests.support.alignments import build_baseline, gradients
from tests.support.alignments import unnormalised_matrices as matrices
from tests.support.baseline_oracle import BASELINES

each_baseline = pytest.mark.parametrize("fields", BASELINES.values(), ids=BASELINES)


@each_baseline
def test_photos_of_equal_size_can_be_passed_as_one_tensor(fields):
    matcher = build_baseline(fields)
    regions, words = matrices([5] * 3), matrices([4, 2], seed=2)
    torch.testing.assert_close(matcher(torch.stack(regions), words), matcher(regions, words), rtol=0, atol=0)


@each_baseline
def test_listed_pairs_score_as_in_the_block(fields):
    matcher = build_baseline(fields)
    regions, words = matrices([10, 3, 10, 7]), matrices([2, 5, 1, 5, 9], seed=2)
    photo_of_pair, caption_of_pair = np.array([0, 3, 3, 1, 2, 0, 0]), np.array([4, 0, 1, 1, 2, 0, 4])
    block = matcher(regions, words)[photo_of_pair, caption_of_pair]
    listed = matcher.score_list(
        matcher.photo_groups(regions), matcher.caption_groups(words), photo_of_pair, caption_of_pair
    )
    torch.testing.assert_close(listed, block, rtol=0, atol=1e-12)
    inputs = [*regions, *words[:3], words[4]]  # the fourth caption is in no pair
    slopes, expected = gradients(matcher, listed, inputs), gradients(matcher, block, inputs)
    for name, slope in slopes.items():
        torch.testing.assert_close(slope, expected[name], rtol=0, atol=1e-10)


@each_baseline
def test_scores_do_not_depend_on_the_tile_size(fields, monkeypatch):
    matcher = build_baseline(fields)
    regions, words = matrices([4] * 7 + [2] * 3), matrices([3] * 5 + [2] * 4, seed=2)
    expected = matcher(regions, words)
    monkeypatch.setitem(batched_matcher.TILES, "cpu", batched_matcher.Tile(3, 2))
    torch.testing.assert_close(matcher(regions, words), expected, rtol=0, atol=1e-12)


@each_baseline
def test_gradients_agree_with_finite_differences(fields):
    matcher = build_baseline(fields, width=4)
    regions, words = matrices([3, 2], width=4), matrices([4, 2], width=4, seed=2)
    assert torch.autograd.gradcheck(lambda *x: matcher(list(x[:2]), list(x[2:])), (*regions, *words), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@each_baseline
def test_vectors_of_zeros_give_finite_scores_and_gradients(fields, dtype):
    matcher = build_baseline(fields, dtype)
    regions, words = matrices([4, 4, 1, 2], dtype), matrices([3, 1, 2], dtype, seed=2)
    with torch.no_grad():
        regions[0][1] = 0
        regions[1][:] = 0
        regions[3][1] = -regions[3][0]  # a mean of zero
        words[0][1] = 0
        words[1][:] = 0
        words[2].copy_(-regions[0][[0, 0]])  # nothing similar to what it opposes
    scores = matcher(regions, words)
    slopes = gradients(matcher, scores, regions + words)
    assert torch.isfinite(scores).all()
    assert all(torch.isfinite(slope).all() for slope in slopes.values())


@each_baseline
def test_scores_with_bfloat16_products_are_close(fields):
    matcher = build_baseline(fields, torch.float32, 64)
    regions, words = matrices([36, 20, 36], torch.float32, 64), matrices([12, 9, 5], torch.float32, 64, seed=2)
    photos, captions = matcher.photo_groups(regions), matcher.caption_groups(words)
    exact, rough = matcher.score_block(photos, captions), matcher.score_block(photos, captions, torch.bfloat16)
    assert rough.dtype == torch.float32
    # In bf16, scores that are products would have few different values, and ranks would be lost to ties.
    assert torch.equal(rough, exact) == (fields["matcher"] in ("vse++", "tern"))
    torch.testing.assert_close(rough, exact, rtol=0, atol=0.01)


@each_baseline
def test_bfloat16_products_leave_scores_different(fields):
    matcher = build_baseline(fields, torch.float32, 64)
    regions, words = matrices([4] * 60, torch.float32, 64), matrices([5] * 60, torch.float32, 64, seed=2)
    scores = matcher.score_block(matcher.photo_groups(regions), matcher.caption_groups(words), torch.bfloat16)
    assert len(scores.unique()) > 0.9 * scores.numel()


@each_baseline
def test_empty_inputs_give_an_empty_block(fields):
    matcher = build_baseline(fields)
    assert matcher([], matrices([2])).shape == (0, 1)
    assert matcher(matrices([2]), []).shape == (1, 0)
    assert matcher([], []).shape == (0, 0)
    assert matcher(torch.empty(0, 3, 16, dtype=torch.float64), matrices([2], torch.float32)).dtype == torch.float64


def build(captions, fields):
    torch.manual_seed(0)
    return SHAN(ModelConfig(region_dim=12, joint_dim=8, word_dim=6, **fields), Vocabulary.build(captions))


@pytest.mark.parametrize("hardest", [True, False])
@each_baseline
def test_a_step_updates_every_parameter_and_lowers_the_loss(fields, hardest, captions):
    model, photos = build(captions, fields), torch.tensor([0, 1, 1, 2])
    objective, regions = RankingObjective(model, margin=0.2), torch.randn(4, 3, 12)
    loss = objective(regions, captions, photos, hardest)
    torch.testing.assert_close(loss, ranking_loss(model(regions, captions), photos, hardest=hardest))
    loss.backward()
    for name, parameter in objective.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name
    torch.optim.SGD(objective.parameters(), lr=1e-3).step()
    assert objective(regions, captions, photos, hardest) < loss


@each_baseline
def test_a_bundle_gives_the_same_scores(fields, captions, tmp_path):
    model, regions = build(captions, fields).eval(), torch.randn(2, 3, 12)
    save_bundle(model, tmp_path)
    again = load_bundle(tmp_path)
    assert again.config == model.config
    assert type(again.alignment) is type(model.alignment)
    with torch.no_grad():
        assert torch.equal(again(regions, captions), model(regions, captions))


def test_every_matcher_scores_differently(captions):
    regions = torch.randn(2, 3, 12)
    scores = [build(captions, fields)(regions, captions) for fields in [{}, *BASELINES.values()]]
    assert all(not torch.allclose(a, b) for n, a in enumerate(scores) for b in scores[:n])


@pytest.mark.parametrize(("field", "bad"), [("matcher", "scan"), ("scan_pooling", "sum")])
def test_an_unknown_matcher_or_pooling_is_refused(field, bad):
    with pytest.raises(ValueError, match=rf"^model\.{field} is '{bad}'; choose one of: "):
        ModelConfig(**{field: bad})


@pytest.mark.parametrize("bad", [-1.0, 1e-4, 1e7, float("nan")])
def test_a_factor_of_log_sum_exp_is_in_its_range(bad):
    with pytest.raises(ValueError, match=rf"^model\.scan_lse_factor is {bad}; it must be between 0\.001 and 1e\+06"):
        ModelConfig(scan_lse_factor=bad)
