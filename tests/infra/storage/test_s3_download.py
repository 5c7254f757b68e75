"""Downloads over connections that break."""

import time

import numpy as np
import pytest

from infra.errors import StorageError
from infra.storage import s3_download
from infra.storage.s3 import S3Store
from tests.support.faulty_proxy import CUT_BODY, CUT_HEADERS, DRIP, FaultyProxy

LARGE = np.arange(3 << 20, dtype=">u4").tobytes()


def test_a_broken_download_resumes_at_its_last_byte(
    s3_store: S3Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(s3_download, "READ_BYTES", 1 << 20)
    s3_store.put_if_absent("big", LARGE)
    proxy.next(CUT_BODY, times=4, method="GET")
    assert s3_store.read("big", 1) == LARGE[1:]
    assert proxy.requests["GET"] == 5


def test_an_object_replaced_during_its_download_is_read_again(
    s3_store: S3Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
):
    s3_store.put_if_absent("x", b"a" * 1_000_000)
    monkeypatch.setattr(s3_download, "READ_BYTES", 100_000)
    monkeypatch.setattr(s3_download, "back_off", lambda _: s3_store.replace("x", b"b" * 1_000_000) or 0.0)
    proxy.next(CUT_BODY, method="GET")
    assert s3_store.read("x") == b"b" * 1_000_000


def test_a_download_without_progress_fails(s3_store: S3Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch):
    s3_store.put_if_absent("x", b"12")
    monkeypatch.setattr(s3_download, "back_off", lambda _: 0.0)
    proxy.always(CUT_HEADERS)
    with pytest.raises(StorageError, match=rf"{s3_store.uri}: .*\(IncompleteReadError\); re-run"):
        s3_store.read("x")


def test_a_store_that_drips_is_given_up(s3_store: S3Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch):
    s3_store.put_if_absent("x", bytes(1000))
    monkeypatch.setattr(s3_download, "GRACE_S", 1)
    proxy.always(DRIP)
    start = time.monotonic()
    with pytest.raises(StorageError, match=rf"{s3_store.uri}/x: the S3 server sends less than 1024 bytes per second"):
        s3_store.read("x")
    assert time.monotonic() - start < 4


def test_a_slow_download_within_the_grace_is_finished(s3_store: S3Store, proxy: FaultyProxy):
    s3_store.put_if_absent("x", bytes(30))
    proxy.always(DRIP)
    assert s3_store.read("x") == bytes(30)
