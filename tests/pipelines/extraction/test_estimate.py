"""The estimate: the bottleneck of a cluster, and the resulting hours and cost."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.datasets.manifest import SCHEMA, Manifest, Photo, Photos
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.estimate import PROBE_PHOTOS, Probe, choose_probe_photos, estimate
from pipelines.extraction.estimate_config import EstimateConfig
from pipelines.extraction.reconcile import FeatureSetPlan, ShardTask

PROBE = Probe(photos=48, start_s=10, fetch_s=0.01, detect_s=0.1, commit_s=0.01, shard_bytes=150_000)


def plan(shards: int, reused: int = 0) -> FeatureSetPlan:
    """A plan of shards with 100 photos, of which the first `reused` of each need no detection."""
    rows = [Photo(f"p{n}-{i}", "x", "train", ("c",)) for n in range(shards) for i in range(100)]
    photos = Manifest.build("m", "/photos", rows).table if rows else SCHEMA.empty_table()
    tasks = [
        ShardTask(
            f"features-train-{n:06d}-0",
            Photos(photos, np.arange(n * 100, n * 100 + 100)),
            "",
            100,
            ("t",) * reused + ("",) * (100 - reused),
        )
        for n in range(shards)
    ]
    return FeatureSetPlan(tuple(task.name for task in tasks), {}, tuple(tasks), 100 * shards, {})


def test_detectors_are_the_bottleneck_with_spare_cores():
    config = ExtractConfig(min_detector_actors=4, max_detector_actors=4)
    result = estimate(PROBE, plan(360), config, EstimateConfig(2, 16, 0, dollars_per_node_hour=1.5))
    assert (result.detectors, result.bottleneck) == (4, "detector processes")
    assert result.photos_per_s == pytest.approx(40)
    assert result.seconds == pytest.approx(10 + 36_000 / 40)
    assert result.dollars == pytest.approx(result.seconds / 3600 * 2 * 1.5)
    assert (result.shards, result.photos, result.bytes) == (360, 36_000, 36_000 * 150_000)


def test_cores_are_the_bottleneck_of_a_full_cluster():
    config = ExtractConfig(min_detector_actors=1, max_detector_actors=100)
    result = estimate(PROBE, plan(360), config, EstimateConfig(1, 8))
    assert (result.detectors, result.bottleneck) == (7, "cores")
    assert result.photos_per_s == pytest.approx(8 / 0.12)


def test_fetching_is_the_bottleneck_of_fast_detectors_on_gpus():
    quick = replace(PROBE, detect_s=0.002, fetch_s=0.05)
    config = ExtractConfig(min_detector_actors=2, max_detector_actors=2, detector_gpus=0.5)
    result = estimate(quick, plan(360), config, EstimateConfig(1, 8, gpus_per_node=1))
    assert result.detectors == 2
    assert result.bottleneck in ("cores", "fetching tasks")
    full = replace(config, detector_gpus=1, min_detector_actors=1)
    one_gpu_less = estimate(quick, plan(360), full, EstimateConfig(1, 8, gpus_per_node=1))
    assert one_gpu_less.detectors == 1


def test_only_photos_to_detect_are_counted():
    config = ExtractConfig()
    result = estimate(PROBE, plan(10, reused=99), config, EstimateConfig(1, 16))
    assert result.photos == 10
    assert result.bytes == 1000 * 150_000
    assert len(choose_probe_photos(plan(10, reused=99))) == 10


def test_the_probe_is_spread_over_the_data_set():
    chosen = choose_probe_photos(plan(50))
    assert len(chosen) == PROBE_PHOTOS
    shards = [int(photo.key[1:].split("-")[0]) for photo in chosen]
    assert shards[0] == 0
    assert shards[-1] >= 47
    assert len(choose_probe_photos(plan(0))) == 0
