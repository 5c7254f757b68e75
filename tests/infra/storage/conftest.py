"""Fixtures of the S3 tests: a store, a proxy that injects faults, a short retry deadline."""

import secrets
from collections.abc import Iterator

import pytest

from infra.storage import s3_client
from infra.storage.s3 import S3Store
from tests.support.faulty_proxy import FaultyProxy, faulty_proxy
from tests.support.servers import S3Server, aws_environment


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    """A proxy in front of the server; this process's client connects to it."""
    with (
        faulty_proxy(s3_server.endpoint) as made,
        aws_environment({**s3_server.environment(), "AWS_ENDPOINT_URL": made.endpoint}),
    ):
        yield made


@pytest.fixture
def s3_store(s3_server: S3Server) -> S3Store:
    """An empty store at its own root."""
    return S3Store(s3_server.bucket, secrets.token_hex(4))


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are retried for half a second only."""
    monkeypatch.setattr(s3_client, "DEADLINE_S", 0.5)
