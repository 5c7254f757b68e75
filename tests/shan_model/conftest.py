import pytest
import torch

from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary

CAPTIONS = ["A dog runs.", "two cats sleep on a red sofa", "dog", "the café's dog chases the cats over the field"]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def captions() -> list[str]:
    return list(CAPTIONS)


@pytest.fixture
def model(captions: list[str]) -> SHAN:
    torch.manual_seed(0)
    return SHAN(ModelConfig(region_dim=12, joint_dim=8, word_dim=6), Vocabulary.build(captions))
