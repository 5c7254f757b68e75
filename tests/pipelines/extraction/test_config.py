"""Settings of an extraction: what is refused, and what follows from them."""

import math

import pytest

from infra.errors import UserError
from pipelines.extraction.config import ExtractConfig


def test_the_photos_of_a_shard_follow_from_its_size():
    spec = ExtractConfig().spec()
    photos = ExtractConfig().shard_size(spec)
    assert photos * 152_000 == pytest.approx(128e6, rel=0.02)
    assert photos % 32 == 0
    assert ExtractConfig(shard_mb=1).shard_size(spec) == 32
    assert ExtractConfig(photos_per_shard=7).shard_size(spec) == 7
    assert ExtractConfig(photos_per_part=5).shard_size(spec) == photos


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"photos_per_part": 0}, "extract.photos_per_part is 0; it must be at least 1"),
        ({"photos_per_part": 500}, "extract.photos_per_part is 500; it must be at most "),
        ({"detector_batch_size": 0}, "extract.detector_batch_size is 0; it must be at least 1"),
        ({"min_detector_actors": 0}, "extract.min_detector_actors is 0; it must be at least 1"),
        (
            {"max_detector_actors": 1},
            "extract.max_detector_actors is 1; it must be at least extract.min_detector_actors",
        ),
        ({"photos_per_shard": -1}, "extract.photos_per_shard is -1; it must not be negative"),
        ({"shard_mb": 0}, "extract.shard_mb is 0; it must be positive and at most 4000"),
        ({"shard_mb": 5000}, "extract.shard_mb is 5000; it must be positive and at most 4000"),
        ({"shard_mb": math.nan}, "extract.shard_mb is nan; it must be positive and at most 4000"),
        (
            {"shard_mb": 1, "photos_per_shard": 7},
            "extract.shard_mb is 1, but has no effect with extract.photos_per_shard; omit one of the two",
        ),
        ({"detector_cpus": 0}, "extract.detector_cpus is 0; it must be positive"),
        (
            {"detector_gpus": 1.5},
            "extract.detector_gpus is 1.5; it must be 0, a fraction of one GPU, or",
        ),
        ({"max_rejected": 1.1}, "extract.max_rejected is 1.1; it must be a fraction from 0 to 1"),
        ({"max_rejected": math.nan}, "extract.max_rejected is nan; it must be a fraction from 0 to 1"),
        ({"output": "ftp://host/x"}, "ftp:// is not supported"),
        ({"detector": "yolo"}, "extract.detector is 'yolo'"),
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, object], message: str):
    with pytest.raises((ValueError, UserError)) as caught:
        ExtractConfig(**fields)
    assert message in str(caught.value)


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (0.25, "cuda"), (2, "cuda")])
def test_processes_with_a_gpu_detect_on_it(gpus: float, device: str):
    assert ExtractConfig(detector_gpus=gpus).device == device
