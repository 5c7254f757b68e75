"""Scoring actors that never start, that are lost, and that fail."""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from infra import cluster_resources
from infra.cluster import ClusterConfig
from infra.cluster_resources import ResourceRequest, Wait
from infra.errors import UserError
from infra.tracking import TrackingConfig
from pipelines.evaluation import actor_scoring
from pipelines.evaluation.actor_scoring import ActorPool, BlockScorer, RowBlock
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.score import score_all_pairs
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.extraction.config import ExtractConfig
from pipelines.models.config import RegisterConfig
from pipelines.pipeline.setup import PipelineData, PipelineSetup, check_pipeline
from pipelines.search.config import IndexConfig
from pipelines.training.config import TrainConfig
from pipelines.training.setup import TrainingSetup
from pipelines.training.shard_cache import CacheConfig
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.score_cache import ScoringError
from shan_model.vocabulary import Vocabulary
from tests.support.processes import kill, workers

SENTENCES = ["a dog runs over the field", "two cats sleep", "a red sofa", "the dog sleeps on a sofa"] * 5
pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def shan() -> SHAN:
    torch.manual_seed(0)
    return SHAN(ModelConfig(region_dim=12, joint_dim=8, word_dim=6), Vocabulary.build(SENTENCES)).eval()


class Photos:
    """Photos that fail, or kill the process, when an actor reads them."""

    def __init__(self, regions: np.ndarray, fail: Sequence[str] = ()) -> None:
        self.regions, self.fail = regions, tuple(fail)

    def __len__(self) -> int:
        return len(self.regions)

    def __getitem__(self, rows: slice) -> np.ndarray:
        in_actor = ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
        if in_actor and "always" in self.fail:
            os.kill(os.getpid(), signal.SIGKILL)
        if in_actor and "raise" in self.fail:
            raise ScoringError("photo 3 is not finite")
        return self.regions[rows]


@pytest.fixture
def photos() -> Photos:
    return Photos(np.random.default_rng(0).standard_normal((90, 5, 12)).astype(np.float16))


def run(shan: SHAN, photos: Photos, progress: Any = lambda _: None, **config: Any) -> np.ndarray:
    return np.array(score_all_pairs(shan, photos, SENTENCES, ScoreConfig(**config), ClusterConfig(), "me", progress))


@pytest.fixture
def busy() -> Iterator[None]:
    """Another job of the cluster holds 3 of its 4 CPUs."""
    group = ray.util.placement_group([{"CPU": 3}])
    assert group.wait(30)
    yield
    ray.util.remove_placement_group(group)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"score": ScoreConfig(num_actors=1, actor_gpus=1.0)}, "score\\.num_actors is 1"),
        ({"index": IndexConfig(actor_gpus=1.0)}, "index\\.actor_cpus is 1 and index\\.actor_gpus is 1"),
    ],
)
def test_a_pipeline_refuses_missing_gpus_at_its_start(
    sections: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its evaluation and its index come hours after its start."""
    monkeypatch.chdir(tmp_path)
    training = TrainingSetup(
        ModelConfig(), TrainConfig(), CacheConfig(), TrackingConfig(), RegisterConfig(), ClusterConfig()
    )
    setup = PipelineSetup(ExtractConfig(), training, ScoreConfig(), PromoteConfig(), IndexConfig(), until="index")
    data = PipelineData("d", "split 'train'", np.full(500, 5))
    with pytest.raises(UserError, match=rf"{said}, which needs 1 x \(1 CPU, 1 GPU\), but the cluster has"):
        check_pipeline("m", data, replace(setup, **sections))


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch has a GPU")
def test_actors_whose_torch_has_no_gpu_are_an_error(shan: SHAN, photos: Photos):
    """A node may have a GPU, but a CPU build of torch."""
    inputs = [ray.put(x) for x in (shan, photos, SENTENCES, None)]
    scorer = ray.remote(BlockScorer).options(num_cpus=1)
    request = ResourceRequest([{"CPU": 1.0}], "score.num_actors is 1", "lower it")
    pool = ActorPool(lambda: scorer.remote(*inputs, "fp32", "cuda"), 1, lambda: Wait(ClusterConfig(), request))
    with pytest.raises(UserError, match=r"\(score\.actor_gpus\) is cuda, but torch finds no GPU"):
        list(pool.score([RowBlock(0, [0])]))
    pool.close()


@pytest.mark.long
def test_actors_that_cannot_start_get_no_work(shan: SHAN, photos: Photos, busy: None):
    """Each actor was given a row block at once, so the job waited forever for those that never started."""
    np.testing.assert_allclose(run(shan, photos, num_actors=3), run(shan, photos), rtol=0, atol=1e-6)


@pytest.mark.long
def test_scoring_starts_only_actors_that_fit(shan: SHAN, photos: Photos, capsys: pytest.CaptureFixture[str]):
    np.testing.assert_allclose(run(shan, photos, num_actors=6), run(shan, photos), rtol=0, atol=1e-6)
    assert "score.num_actors is 6, but the cluster fits only 4, so 4 are used\n" in capsys.readouterr().err


def test_gpus_that_the_cluster_lacks_are_an_error(shan: SHAN, photos: Photos):
    with pytest.raises(
        UserError, match=r"^score\.num_actors is 2, which needs 1 x \(1 CPU, 1 GPU\), .* set score.actor"
    ):
        run(shan, photos, num_actors=2, actor_gpus=1)


def test_work_of_lost_actor_is_redone(shan: SHAN, photos: Photos, capsys: pytest.CaptureFixture[str]):
    """A lost node ended the job with a traceback, and all scores were gone."""
    killed = []

    def kill_one(pairs: int) -> None:
        if pairs and not killed:
            killed.append(kill(workers("BlockScorer")[0]))

    found = run(shan, photos, kill_one, num_actors=2, memory_mb=2)
    assert killed == [True]
    np.testing.assert_allclose(found, run(shan, photos), rtol=0, atol=1e-6)


@pytest.mark.long
def test_actors_that_die_again_and_again_are_an_error(shan: SHAN, photos: Photos, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(actor_scoring, "MAX_LOSSES", 1)
    photos.fail = ("always",)
    with pytest.raises(
        UserError, match=r"^2 scoring actors were lost without finishing a block .*; lower score\.memory"
    ):
        run(shan, photos, num_actors=1)


def test_actor_error_is_raised_by_the_job(shan: SHAN, photos: Photos):
    photos.fail = ("raise",)
    with pytest.raises(UserError, match=r"^photo 3 is not finite$"):
        run(shan, photos, num_actors=1)


@pytest.mark.long
def test_a_wait_for_the_first_actor_is_announced(
    shan: SHAN, photos: Photos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(cluster_resources, "NOTICE_S", 0.0)
    group = ray.util.placement_group([{"CPU": 4}])
    assert group.wait(30)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        ray.util.remove_placement_group(group)  # the other job ends

    monkeypatch.setattr(cluster_resources, "_say", say)
    run(shan, photos, num_actors=1)
    assert said[0] == "waiting for free resources on the cluster: 1 x (1 CPU) (score.num_actors is 1)"
    assert said[1].startswith("the cluster has the resources after ")
