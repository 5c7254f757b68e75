"""The estimate: which part of a cluster decides, and what follows in hours and money."""

from dataclasses import replace

import pytest

from pipelines.datasets.manifest import Photo
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.estimate import PROBE_PHOTOS, EstimateConfig, Probe, choose_photos, estimate
from pipelines.extraction.reconcile import FeatureSetPlan, Place, ShardPlan

PROBE = Probe(photos=48, start_s=10, fetch_s=0.01, detect_s=0.1, commit_s=0.01, shard_bytes=150_000)


def plan(shards: int, reused: int = 0) -> FeatureSetPlan:
    """Shards of 100 photos, of which the first `reused` of each need no detector."""
    return FeatureSetPlan(
        tuple(
            ShardPlan(
                f"features-train-{n:06d}-0",
                tuple(Photo(f"p{n}-{i}", "x", "train", ("c",)) for i in range(100)),
                {f"p{n}-{i}": Place("t", "", ()) for i in range(reused)},
            )
            for n in range(shards)
        ),
        {},
        {},
    )


def test_detectors_bound_a_cluster_with_cores_to_spare():
    config = ExtractConfig(detector_actors_min=4, detector_actors_max=4)
    answer = estimate(PROBE, plan(360), config, EstimateConfig(2, 16, 0, dollars_per_node_hour=1.5))
    assert (answer.detectors, answer.bound) == (4, "detector processes")
    assert answer.photos_per_s == pytest.approx(40)
    assert answer.seconds == pytest.approx(10 + 36_000 / 40)
    assert answer.dollars == pytest.approx(answer.seconds / 3600 * 2 * 1.5)
    assert (answer.shards, answer.photos, answer.bytes) == (360, 36_000, 36_000 * 150_000)


def test_cores_bound_a_cluster_that_is_full():
    config = ExtractConfig(detector_actors_min=1, detector_actors_max=100)
    answer = estimate(PROBE, plan(360), config, EstimateConfig(1, 8))
    assert (answer.detectors, answer.bound) == (7, "cores")
    assert answer.photos_per_s == pytest.approx(8 / 0.12)


def test_fetching_bounds_quick_detectors_on_gpus():
    quick = replace(PROBE, detect_s=0.002, fetch_s=0.05)
    config = ExtractConfig(detector_actors_min=2, detector_actors_max=2, detector_gpus=0.5)
    answer = estimate(quick, plan(360), config, EstimateConfig(1, 8, gpus_per_node=1))
    assert answer.detectors == 2
    assert answer.bound in ("cores", "fetching tasks")
    whole = replace(config, detector_gpus=1, detector_actors_min=1)
    one_gpu_less = estimate(quick, plan(360), whole, EstimateConfig(1, 8, gpus_per_node=1))
    assert one_gpu_less.detectors == 1


def test_only_photos_that_need_the_detector_count():
    config = ExtractConfig()
    answer = estimate(PROBE, plan(10, reused=99), config, EstimateConfig(1, 16))
    assert answer.photos == 10
    assert answer.bytes == 1000 * 150_000
    assert len(choose_photos(plan(10, reused=99))) == 10


def test_the_probe_is_spread_over_the_data_set():
    chosen = choose_photos(plan(50))
    assert len(chosen) == PROBE_PHOTOS
    shards = [int(photo.key[1:].split("-")[0]) for photo in chosen]
    assert shards[0] == 0
    assert shards[-1] >= 47
    assert len(choose_photos(plan(0))) == 0
