"""An S3 store over a network with faults, and its limits."""

import secrets
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.errors import UserError
from infra.storage import s3, s3_client
from infra.storage.open import open_store
from infra.storage.s3 import S3Store
from tests.support.faulty_proxy import (
    BUSY,
    CUT_BEFORE,
    CUT_BODY,
    CUT_HEADERS,
    CUT_REQUEST,
    LOST,
    FaultyProxy,
    faulty_proxy,
)
from tests.support.servers import S3Server, aws_environment

FAULTS = (BUSY, CUT_BEFORE, CUT_REQUEST, LOST, CUT_BODY, CUT_HEADERS)


def test_a_put_whose_response_is_lost_succeeds(s3_store: S3Store, proxy: FaultyProxy):
    proxy.next(LOST, method="PUT")
    assert s3_store.put_if_absent("x", b"mine")
    assert proxy.requests["PUT"] == 2
    assert not s3_store.put_if_absent("x", b"theirs")
    proxy.next(LOST, method="PUT")
    assert not s3_store.put_if_absent("x", b"mine")  # the same bytes by another writer
    assert s3_store.read("x") == b"mine"
    assert proxy.counts == {LOST: 2}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_operation_survives_every_fault(s3_store: S3Store, proxy: FaultyProxy, fault: str):
    data = secrets.token_bytes(100_000)
    calls = (
        lambda: s3_store.put_if_absent("x", data),
        lambda: not s3_store.put_if_absent("x", data),
        lambda: s3_store.replace("y", data) is None,
        lambda: s3_store.read("x") == data,
        lambda: s3_store.read("x", 10, 50_000) == data[10:50_010],
        lambda: list(s3_store.objects()) == ["x", "y"],
        lambda: s3_store.delete("y") is None,
        lambda: s3_store.abort_incomplete_uploads() == [],
    )
    for number, call in enumerate(calls):
        proxy.next(fault)
        assert call(), number
    assert list(s3_store.objects()) == ["x"]
    assert s3_store.read("x") == data
    assert proxy.counts == {fault: len(calls)}


def test_one_of_many_writers_succeeds_over_a_bad_network(
    s3_store: S3Store, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(s3_client, "back_off", lambda _: 0.05)
    rates = {LOST: 0.2, CUT_BEFORE: 0.1, CUT_BODY: 0.1, CUT_HEADERS: 0.05}
    names = [f"{i}" for i in range(20) for _ in range(3)]
    with (
        faulty_proxy(s3_server.endpoint, rates, seed=1) as proxy,
        aws_environment({**s3_server.environment(), "AWS_ENDPOINT_URL": proxy.endpoint}),
        ThreadPoolExecutor(8) as pool,
    ):
        won = list(pool.map(lambda name: s3_store.put_if_absent(name, name.encode()), names))
        read = list(pool.map(s3_store.read, sorted(set(names))))
    assert Counter(name for name, mine in zip(names, won, strict=True) if mine) == Counter(set(names))
    assert read == [name.encode() for name in sorted(set(names))]
    assert proxy.counts[LOST] > 5


def test_objects_beyond_the_limit_of_a_put_are_an_error(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch):
    assert s3.MAX_OBJECT_BYTES == 5 * 1024**3  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
    monkeypatch.setattr(s3, "MAX_OBJECT_BYTES", 1000)
    message = r"/big: the object has 1,001 bytes and S3 takes at most 1,000 in one PUT; write smaller objects"
    for write in (s3_store.put_if_absent, s3_store.replace):
        write(write.__name__, bytes(1000))
        with pytest.raises(UserError, match=message):
            write("big", bytes(1001))
    assert list(s3_store.objects()) == ["put_if_absent", "replace"]


def test_invalid_bucket_names():
    for uri in ("s3://", "s3:///prefix", "s3://a b/c", "s3://x", "s3://key@host/c"):
        with pytest.raises(UserError, match="is not a bucket name; give s3://bucket/prefix"):
            open_store(uri)
