"""Tests of the complete model: inputs, outputs, and overfitting of a small batch."""

import pytest
import torch

from shan_model.config import ModelConfig
from shan_model.loss import ranking_loss
from shan_model.metrics import retrieval_recalls
from shan_model.model import SHAN
from shan_model.scoring import score_matrix
from shan_model.vocabulary import Vocabulary


def test_scores_are_photos_by_captions_for_any_float_type(model: SHAN, captions):
    regions = torch.randn(3, 5, 12)
    scores = model(regions, captions)
    assert scores.shape == (3, len(captions))
    torch.testing.assert_close(model(regions.double(), captions), scores)
    torch.testing.assert_close(model(regions.half(), captions), model(regions.half().float(), captions))


def test_scores_do_not_depend_on_longer_captions_in_the_batch(model: SHAN, captions):
    regions = torch.randn(3, 5, 12)
    together = model(regions, [*captions, "dog " * 100])
    for column, caption in enumerate(captions):
        torch.testing.assert_close(model(regions, [caption])[:, 0], together[:, column], rtol=0, atol=1e-6)


def test_scores_depend_on_word_order_but_not_on_case(model: SHAN):
    regions = torch.randn(2, 5, 12)
    plain, loud, turned = model(regions, ["two cats sleep", "TWO cats, sleep!", "sleep cats two"]).unbind(dim=1)
    torch.testing.assert_close(plain, loud)
    assert not torch.allclose(plain, turned, atol=1e-6)


def test_every_parameter_of_every_variant_gets_a_gradient(captions):
    for variant in ("full", "t2i", "i2t"):
        for levels in ("l2l", "l2l+g2l", "l2l+g2l+g2g"):
            config = ModelConfig(region_dim=12, joint_dim=8, word_dim=6, variant=variant, levels=levels)
            model = SHAN(config, Vocabulary.build(captions))
            model(torch.randn(2, 5, 12), captions).sum().backward()
            missing = [name for name, p in model.named_parameters() if p.grad is None]
            assert not missing, (variant, levels)


@pytest.mark.parametrize("variant", ["full", "t2i", "i2t"])
def test_overfits_eight_random_photos_with_eight_captions(variant):
    torch.manual_seed(0)
    photos = torch.randn(8, 4, 16)
    captions = [" ".join(f"word{i}" for i in torch.randint(12, (6,)).tolist()) for _ in range(8)]
    config = ModelConfig(region_dim=16, joint_dim=32, word_dim=16, variant=variant)
    model = SHAN(config, Vocabulary.build(captions))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(80):
        loss = ranking_loss(model(photos, captions), torch.arange(8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0], losses[::10]
    recalls = retrieval_recalls(score_matrix(model, photos.numpy(), captions), torch.arange(8).numpy())
    assert (recalls.image_to_text_r1, recalls.text_to_image_r1) == (100, 100)
