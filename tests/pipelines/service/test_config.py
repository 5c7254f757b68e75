"""Settings of the service: constraints, and which addresses only this machine can reach."""

from typing import Any

import pytest

from pipelines.service.config import ServiceConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shares": 0}, "service.shares is 0; it must be at least 1"),
        ({"port": 0}, "service.port is 0; it must be between 1 and 65535"),
        ({"detectors": -1}, "service.detectors is -1; it must be at least 0"),
        ({"deadline_s": float("nan")}, "service.deadline_s is nan; it must be positive"),
        ({"gpus": 1.5}, "service.gpus is 1.5; it must be 0, a fraction of one GPU, or a whole number"),
        ({"image_sources": ("s3://b/photos",)}, "service.image_sources has s3://b/photos; end each prefix with /"),
    ],
)
def test_invalid_fields_are_named(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ServiceConfig(**fields)


def test_processes_and_addresses():
    config = ServiceConfig(shares=3, replicas=2, detectors=1, cpus=2)
    assert config.gallery_cpus == 14
    assert [ServiceConfig(host=host).is_loopback for host in ("127.0.0.1", "localhost", "192.0.2.1")] == [
        True,
        True,
        False,
    ]
    assert [ServiceConfig(gpus=gpus).device for gpus in (0, 0.5)] == ["cpu", "cuda"]
