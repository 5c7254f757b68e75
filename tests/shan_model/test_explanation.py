"""The words of a caption with the regions that they attend to, and the scores by level."""

import pytest
import torch

from shan_model.config import ModelConfig
from shan_model.explanation import attended_words, scores_by_level
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary

CAPTION = "a zebra, a dog"


@pytest.fixture(scope="module", params=["shan", "scan-t2i", "sgr", "tern"])
def shan(request: pytest.FixtureRequest) -> SHAN:
    torch.manual_seed(0)
    config = ModelConfig(region_dim=8, joint_dim=16, word_dim=12, matcher=request.param)
    return SHAN(config, Vocabulary.build(["a dog"])).eval()


@torch.inference_mode()
def test_each_word_has_its_region_of_highest_weight(shan: SHAN):
    (regions_RD,) = shan.encode_photos(torch.randn(1, 5, 8))
    (words_WD,) = shan.encode_captions([CAPTION])
    found = attended_words(shan, regions_RD, words_WD, CAPTION)
    assert [(word.word, word.known) for word in found] == [("a", True), ("zebra", False), ("a", True), ("dog", True)]
    attention_RW = shan.alignment.word_attention(regions_RD[None], words_WD)[0]
    for position, word in enumerate(found, 1):  # after the start token
        assert word.region == int(attention_RW[:, position].argmax())
        assert word.weight == float(attention_RW[:, position].max())


@torch.inference_mode()
def test_level_scores_of_shan_sum_to_the_score(shan: SHAN):
    (regions_RD,) = shan.encode_photos(torch.randn(1, 5, 8))
    (words_WD,) = shan.encode_captions([CAPTION])
    levels = scores_by_level(shan, regions_RD, words_WD)
    if shan.config.matcher == "shan":
        score = float(shan.alignment(regions_RD[None], [words_WD])[0, 0])
        assert sum(levels.values()) == pytest.approx(score, abs=1e-5)
    else:
        assert levels == {}
