"""Settings of the service: constraints, and which addresses only this machine can reach."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.service.config import ServiceConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_shares": 0}, "service.num_shares is 0; it must be between 1 and 1000000"),
        ({"num_replicas": 3, "max_replicas": 2}, "service.max_replicas is 2 and service.num_replicas is 3; it must be"),
        ({"max_replicas": -1}, "service.max_replicas is -1; it must be between 0 and 1000000"),
        ({"port": 0}, "service.port is 0; it must be between 1 and 65535"),
        ({"num_detectors": -1}, "service.num_detectors is -1; it must be between 0 and"),
        ({"max_requests": 300_000_000}, "service.max_requests is 300000000; it must be between 1 and 1000000"),
        ({"deadline_s": float("nan")}, "service.deadline_s is nan; it must be positive"),
        ({"follow_every_s": 1e10}, "service.follow_every_s is 10000000000.0; it must be positive and at most 86400"),
        ({"gpus": 1.5}, "service.gpus is 1.5; it must be 0, a fraction of one GPU, or a whole number"),
        ({"image_sources": ("s3://b/photos",)}, "service.image_sources has s3://b/photos; end each prefix with /"),
        ({"image_sources": ("http://",)}, "service.image_sources has http://; name the host or bucket"),
    ],
)
def test_invalid_fields_are_named(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ServiceConfig(**fields)


def test_folders_of_photos_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    given = ("photos/", "~/photos/", "file:///a%20b/", "s3://b/photos/", "/")
    expected = (f"{tmp_path}/photos/", "/home/me/photos/", "/a b/", "s3://b/photos/", "/")
    assert ServiceConfig(image_sources=given).image_sources == expected


def test_processes_and_addresses():
    config = ServiceConfig(num_shares=3, num_replicas=2, num_detectors=1, cpus=2)
    assert config.gallery_cpus == 14
    assert replace(config, max_replicas=4).gallery_cpus == 26
    assert [ServiceConfig(host=host).is_loopback for host in ("127.0.0.1", "localhost", "192.0.2.1")] == [
        True,
        True,
        False,
    ]
    assert [ServiceConfig(gpus=gpus).device for gpus in (0, 0.5)] == ["cpu", "cuda"]


def test_a_gallery_depends_on_settings_of_its_processes():
    config = ServiceConfig()
    for fields in ({"host": "192.0.2.1"}, {"port": 9000}, {"max_k": 5}, {"follow_every_s": 1.0}):
        assert replace(config, **fields).gallery_settings == config.gallery_settings
    for fields in ({"num_shares": 2}, {"num_replicas": 2}, {"max_replicas": 3}, {"cpus": 2.0}, {"gpus": 1.0}):
        assert replace(config, **fields).gallery_settings != config.gallery_settings


@pytest.mark.parametrize(
    ("host", "location"), [("127.0.0.1", "EveryNode"), ("::", "EveryNode"), ("192.0.2.1", "HeadOnly")]
)
def test_proxies_run_where_the_address_can_be_used(host: str, location: str):
    assert ServiceConfig(host=host).proxy_location == location
