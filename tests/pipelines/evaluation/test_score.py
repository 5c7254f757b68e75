"""Scoring on Ray actors: the same scores as in one process, also when an interrupted run is resumed."""

import numpy as np
import pytest
import torch

from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.metrics import EVALUATED_PAIRS
from pipelines.evaluation.score import score_all_pairs
from pipelines.evaluation.score_config import ScoreConfig
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.support.processes import wait_until
from tests.support.scrape import Scraped

SENTENCES = ["a dog runs over the field", "two cats sleep", "a red sofa", "the dog sleeps on a sofa"] * 5


@pytest.fixture
def shan() -> SHAN:
    torch.manual_seed(0)
    return SHAN(ModelConfig(region_dim=12, joint_dim=8, word_dim=6), Vocabulary.build(SENTENCES))


@pytest.fixture
def photos() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((90, 5, 12)).astype(np.float16)


def run(shan: SHAN, photos: np.ndarray, config: ScoreConfig, identity: str = "me") -> tuple[np.ndarray, list[int]]:
    added: list[int] = []
    scores = score_all_pairs(shan, photos, SENTENCES, config, ClusterConfig(), identity, added.append)
    return np.array(scores), added


@pytest.mark.long  # test_actor_scoring.py has the parts
@pytest.mark.usefixtures("ray_session")
def test_actors_give_the_scores_of_one_process(shan, photos, tmp_path):
    alone, _ = run(shan, photos, ScoreConfig())
    for precision in ("fp32", "bf16"):
        shared, added = run(shan, photos, ScoreConfig(num_actors=2, precision=precision))
        tolerance = 1e-6 if precision == "fp32" else 0.05
        np.testing.assert_allclose(shared, alone, rtol=0, atol=tolerance)
        assert sum(added) == alone.size
        assert len(added) >= 2


@pytest.mark.usefixtures("ray_session")
def test_scored_pairs_are_counted(shan, photos):
    with Scraped() as scraped:
        scraped.settle()
        before = scraped.total(EVALUATED_PAIRS.exported)
        scores, _ = run(shan, photos, ScoreConfig())
        wait_until(lambda: scraped.total(EVALUATED_PAIRS.exported) == before + scores.size, 60)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.long
def test_actors_resume_an_interrupted_run(shan, photos, tmp_path):
    config = ScoreConfig(num_actors=2, cache_file=str(tmp_path / "scores.npy"))
    first = []

    def stop_after_a_block(pairs: int) -> None:
        first.append(pairs)
        if pairs:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_all_pairs(shan, photos, SENTENCES, config, ClusterConfig(), "me", stop_after_a_block)
    scores, added = run(shan, photos, config)
    assert added[0] == sum(first)
    assert sum(added) == scores.size
    assert 0 < added[0] < scores.size
    np.testing.assert_allclose(scores, run(shan, photos, ScoreConfig())[0], rtol=0, atol=1e-6)


def test_errors_name_the_fix(shan, photos, tmp_path):
    with pytest.raises(UserError, match="allow at least"):
        run(shan, np.zeros((2, 2000, 12), np.float16), ScoreConfig(memory_mb=1))
    cached = ScoreConfig(cache_file=str(tmp_path / "scores.npy"))
    run(shan, photos, cached)
    with pytest.raises(UserError, match=r"holds scores of another model.*delete it"):
        run(shan, photos, cached, identity="another")
