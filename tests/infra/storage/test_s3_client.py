"""Retries of the S3 client, and how it is configured."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from infra.errors import StorageError, UserError
from infra.metrics import STORE_ERRORS, STORE_REQUESTS, STORE_RETRIES
from infra.storage import s3_client
from infra.storage.s3 import S3Store
from tests.support.faulty_proxy import BUSY, CUT_BEFORE, CUT_BODY, CUT_HEADERS, DRIP, FaultyProxy
from tests.support.scrape import Scraped
from tests.support.servers import S3Server, aws_environment
from tests.support.web_server import drips, web_server


@pytest.mark.parametrize("fault", [CUT_BEFORE, CUT_HEADERS])
def test_more_failures_than_botocores_retry_quota(
    s3_store: S3Store, proxy: FaultyProxy, fault: str, monkeypatch: pytest.MonkeyPatch
):
    s3_store.put_if_absent("x", b"1")
    monkeypatch.setattr(s3_client, "back_off", lambda _: 0.01)
    proxy.next(fault, times=50)  # its quota allows 35
    assert list(s3_store.objects()) == ["x"]
    assert proxy.counts == {fault: 50}


@pytest.mark.parametrize(("fault", "seconds"), [pytest.param(BUSY, 8, marks=pytest.mark.long), (CUT_BEFORE, 3)])
def test_many_threads_survive_an_outage(s3_store: S3Store, proxy: FaultyProxy, fault: str, seconds: float):
    proxy.always(fault)
    threading.Timer(seconds, proxy.always, [None]).start()
    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(lambda i: s3_store.put_if_absent(f"{i}", b"1"), range(64)))
    assert len(s3_store.objects()) == 64


@pytest.mark.usefixtures("ray_session")
def test_failed_requests_are_counted_by_kind(s3_store: S3Store, proxy: FaultyProxy):
    with Scraped() as scraped:
        scraped.settle()
        names = [STORE_REQUESTS.exported, STORE_RETRIES.exported]
        before = {name: scraped.total(name, operation="DeleteObject") for name in names}
        kinds = {kind: scraped.total(STORE_ERRORS.exported, kind=kind) for kind in ("throttled", "connection", "other")}
        proxy.next(BUSY)
        proxy.next(CUT_BEFORE)
        s3_store.delete("x")
        with pytest.raises(FileNotFoundError):  # which is not an error of the store
            s3_store.read("x")
        s3_store.put_if_absent("y", b"12")
        repeated = scraped.total(STORE_RETRIES.exported, operation="GetObject")
        proxy.next(CUT_BODY, method="GET")
        assert s3_store.read("y") == b"12"
        scraped.settle()
        assert scraped.total(STORE_RETRIES.exported, operation="GetObject") == repeated + 1
        assert [scraped.total(name, operation="DeleteObject") - before[name] for name in names] == [3, 2]
        found = {kind: scraped.total(STORE_ERRORS.exported, kind=kind) - kinds[kind] for kind in kinds}
    assert found == {"throttled": 1, "connection": 2, "other": 0}


def test_a_truncated_listing_is_an_error(s3_store: S3Store, proxy: FaultyProxy, short_deadline: None):
    s3_store.put_if_absent("x", b"1")
    proxy.always(CUT_HEADERS)
    with pytest.raises(StorageError, match=f"{s3_store.uri}: ListObjectsV2 failed: 502; re-run"):
        s3_store.objects()


def test_a_listing_that_drips_is_given_up(s3_store: S3Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch):
    s3_store.put_if_absent("x", b"1")
    monkeypatch.setattr(s3_client, "RESPONSE_GRACE_S", 0.3)
    proxy.always(DRIP)
    slow = "the S3 server sends less than 1024 bytes per second; re-run the command when the store responds"
    with pytest.raises(StorageError, match=f"^127.0.0.1/{s3_store.bucket}: {slow}$"):
        s3_store.objects()
    assert proxy.counts == {DRIP: 1}


@pytest.mark.parametrize("method", ["objects", "read", "put_if_absent"])
def test_headers_that_drip_are_given_up(s3_server: S3Server, method: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(s3_client, "RESPONSE_GRACE_S", 0.3)
    arguments: tuple[Any, ...] = {"objects": (), "read": ("x",), "put_if_absent": ("x", b"1")}[method]
    with web_server(drips(b"HTTP/1.1 200 OK\r\nX-Part: ", b"a" * 400, 0.1)) as (uri, connections):
        endpoint = {"AWS_ENDPOINT_URL": uri.removesuffix("/a.jpg")}
        with (
            aws_environment({**s3_server.environment(), **endpoint}),
            pytest.raises(
                StorageError, match=r"^127\.0\.0\.1/bucket\S*: the S3 server has not sent the headers .* re-run"
            ),
        ):
            getattr(S3Store("bucket", ""), method)(*arguments)
        assert len(connections) == 1


def test_an_invalid_endpoint_url(s3_store: S3Store, s3_server: S3Server):
    with (
        aws_environment({**s3_server.environment(), "AWS_ENDPOINT_URL": "localhost:9000"}),
        pytest.raises(UserError, match=r"AWS_ENDPOINT_URL is not an http\(s\) URL; correct it"),
    ):
        s3_store.objects()


def test_the_region_comes_from_the_environment(s3_server: S3Server):
    rest = {name: value for name, value in s3_server.environment().items() if "REGION" not in name}
    for variables, region in (
        ({}, "us-east-1"),
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
    ):
        with aws_environment({**rest, **variables}):
            assert s3_client.client().meta.region_name == region
