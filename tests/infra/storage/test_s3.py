"""What only an S3 store goes through: lost answers, a server that is busy or away, refusals, uploads in parts."""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage import s3 as s3_store
from infra.storage import s3_client, s3_download, s3_upload
from infra.storage.open import open_store
from infra.storage.s3 import S3Store
from tests.support.faulty_proxy import BUSY, CUT_BEFORE, CUT_BODY, CUT_HEADERS, LOST, FaultyProxy, faulty_proxy
from tests.support.servers import S3Server, aws_environment

LARGE = b"".join(i.to_bytes(4, "big") for i in range(3 << 20))
FAULTS = (BUSY, CUT_BEFORE, LOST, CUT_BODY, CUT_HEADERS)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    """A proxy before the server, by which this process's client goes."""
    with (
        faulty_proxy(s3_server.endpoint) as made,
        aws_environment({**s3_server.environment(), "AWS_ENDPOINT_URL": made.endpoint}),
    ):
        yield made


@pytest.fixture
def store(s3_server: S3Server) -> S3Store:
    return S3Store(s3_server.bucket, secrets.token_hex(4))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_store, "MULTIPART_BYTES", 6 << 20)
    monkeypatch.setattr(s3_upload, "PART_BYTES", 5 << 20)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "PATIENCE_S", 0.5)


def test_a_create_whose_answer_is_lost_still_wins(store: S3Store, proxy: FaultyProxy):
    proxy.next(LOST, method="PUT")
    assert store.create("x", b"mine")
    assert proxy.requests["PUT"] == 2
    assert not store.create("x", b"theirs")
    proxy.next(LOST, method="PUT")
    assert not store.create("x", b"mine")  # the same bytes, but not the same writer
    assert store.read("x") == b"mine"
    assert proxy.counts == {LOST: 2}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_call_survives_every_fault(store: S3Store, proxy: FaultyProxy, fault: str):
    data = secrets.token_bytes(100_000)
    calls = (
        lambda: store.create("x", data),
        lambda: not store.create("x", data),
        lambda: store.replace("y", data) is None,
        lambda: store.read("x") == data,
        lambda: store.read("x", 10, 50_000) == data[10:50_010],
        lambda: list(store.objects()) == ["x", "y"],
        lambda: store.delete("y") is None,
        lambda: store.sweep(remove=True) == [],
    )
    for number, call in enumerate(calls):
        proxy.next(fault)
        assert call(), number
    assert list(store.objects()) == ["x"]
    assert proxy.counts == {fault: len(calls)}


def test_one_winner_among_many_over_a_bad_network(store: S3Store, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(s3_client, "back_off", lambda _: 0.05)
    rates = {LOST: 0.2, CUT_BEFORE: 0.1, CUT_BODY: 0.1, CUT_HEADERS: 0.05}
    names = [f"{i}" for i in range(20) for _ in range(3)]
    with (
        faulty_proxy(s3_server.endpoint, rates, seed=1) as proxy,
        aws_environment({**s3_server.environment(), "AWS_ENDPOINT_URL": proxy.endpoint}),
        ThreadPoolExecutor(8) as pool,
    ):
        won = list(pool.map(lambda name: store.create(name, name.encode()), names))
        read = list(pool.map(store.read, sorted(set(names))))
    assert Counter(name for name, mine in zip(names, won, strict=True) if mine) == Counter(set(names))
    assert read == [name.encode() for name in sorted(set(names))]
    assert proxy.counts[LOST] > 5


@pytest.mark.parametrize("fault", [CUT_BEFORE, CUT_HEADERS])
def test_more_failures_than_botocore_repeats_are_survived(
    store: S3Store, proxy: FaultyProxy, fault: str, monkeypatch: pytest.MonkeyPatch
):
    store.create("x", b"1")
    monkeypatch.setattr(s3_client, "back_off", lambda _: 0.01)
    proxy.next(fault, times=50)  # its purse holds 35
    assert list(store.objects()) == ["x"]
    assert proxy.counts == {fault: 50}


@pytest.mark.parametrize("fault", [BUSY, CUT_BEFORE])
def test_an_outage_of_20_s_is_survived_by_many_threads(store: S3Store, proxy: FaultyProxy, fault: str):
    proxy.always(fault)
    threading.Timer(20, proxy.always, [None]).start()
    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(lambda i: store.create(f"{i}", b"1"), range(64)))
    assert len(store.objects()) == 64


def test_cut_bodies_are_read_on_from_where_they_stopped(
    store: S3Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(s3_download, "READ_BYTES", 1 << 20)
    store.create("big", LARGE)
    proxy.next(CUT_BODY, times=4, method="GET")
    assert store.read("big", 1) == LARGE[1:]
    assert proxy.requests["GET"] == 5


def test_an_object_replaced_while_it_is_read_is_not_mixed(
    store: S3Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
):
    store.create("x", b"a" * 1_000_000)
    monkeypatch.setattr(s3_download, "READ_BYTES", 100_000)
    monkeypatch.setattr(s3_download, "back_off", lambda _: store.replace("x", b"b" * 1_000_000) or 0.0)
    proxy.next(CUT_BODY, method="GET")
    assert store.read("x") == b"b" * 1_000_000


def test_a_body_that_never_comes_is_given_up(store: S3Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch):
    store.create("x", b"12")
    monkeypatch.setattr(s3_download, "back_off", lambda _: 0.0)
    proxy.always(CUT_HEADERS)
    with pytest.raises(OSError, match=f"{store.uri}: IncompleteReadError"):
        store.read("x")


def test_a_listing_cut_at_its_start_is_not_an_empty_one(store: S3Store, proxy: FaultyProxy, impatient: None):
    store.create("x", b"1")
    proxy.always(CUT_HEADERS)
    with pytest.raises(OSError, match=f"{store.uri}: ListObjectsV2 failed: 502"):
        store.objects()


@pytest.mark.usefixtures("small_parts")
class TestParts:
    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("part", ["?uploads", "partNumber=2", "uploadId="])
    def test_each_step_survives_each_fault(self, store: S3Store, proxy: FaultyProxy, part: str, fault: str):
        method = "PUT" if part == "partNumber=2" else "POST"
        proxy.next(fault, method=method, path=part)
        assert store.create("big", LARGE)
        assert proxy.counts == {fault: 1}
        assert store.read("big") == LARGE
        assert not store.create("big", LARGE)

    def test_a_race_that_is_lost_at_the_end_leaves_no_parts(
        self, store: S3Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
    ):
        """Another writer comes first while the parts are sent: the condition of the last call decides."""
        send = s3_upload._send
        monkeypatch.setattr(s3_upload, "_send", lambda *args: (send(*args), store.create("big", b"first"))[0])
        assert not store.create("big", LARGE)
        assert store.read("big") == b"first"
        assert store.sweep(remove=False) == []

    def test_a_failure_leaves_no_parts(self, store: S3Store, proxy: FaultyProxy, impatient: None):
        proxy.next(CUT_BEFORE, times=30, method="PUT", path="partNumber=3")
        with pytest.raises(OSError, match=f"{store.uri}: ConnectionClosedError"):
            store.create("big", LARGE)
        assert store.objects() == {}
        assert store.sweep(remove=False) == []

    def test_an_upload_swept_while_it_is_written_is_no_success(
        self, store: S3Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
    ):
        send = s3_upload._send
        monkeypatch.setattr(s3_upload, "_send", lambda *args: (send(*args), store.sweep(remove=True))[0])
        for write in (store.create, store.replace):
            with pytest.raises(OSError, match="CompleteMultipartUpload failed: NoSuchUpload"):
                write("big", LARGE)
        assert store.objects() == {}

    def test_a_writer_killed_among_its_parts_leaves_what_sweep_finds(self, store: S3Store, proxy: FaultyProxy):
        """Its third part never gets an answer."""
        proxy.next(CUT_BEFORE, times=1000, method="PUT", path="partNumber=3")
        code = (
            "import sys; from infra.storage import s3 as s3_store, s3_upload\n"
            "from infra.storage.open import open_store\n"
            f"s3_store.MULTIPART_BYTES, s3_upload.PART_BYTES = {s3_store.MULTIPART_BYTES}, {s3_upload.PART_BYTES}\n"
            f"open_store(sys.argv[1]).create('big', bytes({len(LARGE)}))"
        )
        process = subprocess.Popen([sys.executable, "-c", code, store.uri], cwd=Path.cwd())
        while proxy.counts[CUT_BEFORE] < 2:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert store.objects() == {}
        assert store.sweep(remove=True) == ["big"]
        assert store.sweep(remove=False) == []


def refusal(store: S3Store, environment: dict[str, str]) -> str:
    """The message, the same by every way to the store, of what the user is told under these variables."""
    messages = set()
    with aws_environment(environment):
        for call in (
            lambda: store.objects(),
            lambda: store.read("x"),
            lambda: store.create("x", b"1"),
            lambda: store.sweep(remove=False),
        ):
            with pytest.raises(UserError) as caught:
                call()
            messages.add(str(caught.value))
    (message,) = messages
    assert "\n" not in message
    assert message.startswith(store.uri)
    assert not any(environment.get(name, "none given") in message for name in ("AWS_SECRET_ACCESS_KEY", "secret"))
    return message


def test_wrong_credentials(store: S3Store, s3_server: S3Server):
    right = s3_server.environment()
    wrong = refusal(store, {**right, "AWS_SECRET_ACCESS_KEY": "a-secret-of-another"})
    assert "refuses the credentials (SignatureDoesNotMatch); correct AWS_ACCESS_KEY_ID" in wrong
    unknown = refusal(store, {**right, "AWS_ACCESS_KEY_ID": "nobody"})
    assert "refuses the credentials (InvalidAccessKeyId)" in unknown


def test_no_credentials(store: S3Store, s3_server: S3Server):
    right = s3_server.environment()
    none = {name: value for name, value in right.items() if "KEY" not in name}
    assert "no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in refusal(store, none)
    half = {**none, "AWS_ACCESS_KEY_ID": right["AWS_ACCESS_KEY_ID"]}
    assert "no S3 credentials" in refusal(store, half)
    assert "the AWS profile cannot be read" in refusal(store, {**none, "AWS_PROFILE": "nobody's"})


def test_rights_that_are_missing(store: S3Store, s3_server: S3Server):
    with aws_environment(s3_server.environment(reader=True)):
        assert store.objects() == {}
        with pytest.raises(UserError, match="the store does not allow PutObject with these credentials; grant"):
            store.create("x", b"1")


def test_a_missing_bucket(s3_server: S3Server):
    message = refusal(S3Store("no-such-bucket", "p"), s3_server.environment())
    assert "there is no bucket 'no-such-bucket'; create it or correct the URI" in message


def test_names_that_no_bucket_can_have():
    for uri in ("s3://", "s3:///prefix", "s3://a b/c", "s3://x", "s3://key@host/c"):
        with pytest.raises(UserError, match="is no name for a bucket; give s3://bucket/prefix"):
            open_store(uri)


def test_nobody_listens(store: S3Store, s3_server: S3Server, impatient: None):
    address = "http://me:pass-word@127.0.0.1:1"
    message = refusal(store, {**s3_server.environment(), "AWS_ENDPOINT_URL": address})
    assert "nobody answers at 127.0.0.1:1; start the store or correct AWS_ENDPOINT_URL" in message
    assert "pass-word" not in message


def test_an_endpoint_that_is_no_url(store: S3Store, s3_server: S3Server):
    with (
        aws_environment({**s3_server.environment(), "AWS_ENDPOINT_URL": "localhost:9000"}),
        pytest.raises(UserError, match=r"the S3 endpoint is no http\(s\) URL; correct AWS_ENDPOINT_URL"),
    ):
        store.objects()


def test_a_token_that_no_header_can_hold_is_not_told(store: S3Store, s3_server: S3Server, impatient: None):
    with (
        aws_environment({**s3_server.environment(), "AWS_SESSION_TOKEN": "a-secret\ntoken"}),
        pytest.raises(OSError, match=store.uri) as caught,
    ):
        store.objects()
    assert "secret" not in str(caught.value)


def test_the_region_is_found(s3_server: S3Server):
    rest = {name: value for name, value in s3_server.environment().items() if "REGION" not in name}
    for variables, region in (
        ({}, "us-east-1"),
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
    ):
        with aws_environment({**rest, **variables}):
            assert s3_client.client().meta.region_name == region
