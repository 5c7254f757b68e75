"""The check that a store has conditional writes, on real stores and on a server that ignores or refuses them."""

from pathlib import Path

import pytest

from infra.errors import StorageError, UserError
from infra.storage.conditional_writes import require_conditional_writes
from infra.storage.open import open_store
from infra.storage.s3 import S3Store
from tests.support.faulty_proxy import (
    BUSY,
    CONDITION_DROPPED,
    CONDITION_FORBIDDEN,
    CONDITION_IGNORED,
    CONDITION_NEVER_HOLDS,
    CONDITION_REFUSED,
    LOST,
    FaultyProxy,
)
from tests.support.servers import S3Server, aws_environment


def test_a_bucket_passes_and_keeps_nothing(s3_store: S3Store, proxy: FaultyProxy):
    require_conditional_writes(s3_store)
    assert s3_store.objects() == {}
    assert proxy.requests["PUT"] == 2
    proxy.next(LOST, method="PUT", times=2)
    require_conditional_writes(s3_store)


def test_a_folder_is_not_touched(tmp_path: Path):
    require_conditional_writes(open_store(str(tmp_path / "store")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (CONDITION_IGNORED, "the store ignores the condition of writes"),
        (CONDITION_REFUSED, "the store refuses conditional writes"),
        (CONDITION_FORBIDDEN, "the store refuses conditional writes"),
        (CONDITION_DROPPED, "the store refuses conditional writes"),
        (CONDITION_NEVER_HOLDS, "the store refuses conditional writes"),
    ],
)
def test_a_store_without_conditional_writes_is_an_error(
    s3_store: S3Store, proxy: FaultyProxy, fault: str, message: str
):
    proxy.always(fault)
    with pytest.raises(UserError, match=rf"^{s3_store.uri}: {message} .*; use a store that supports"):
        require_conditional_writes(s3_store)
    proxy.always(None)
    assert s3_store.objects() == {}


def test_a_store_that_was_away_and_returns_passes(
    s3_store: S3Store, proxy: FaultyProxy, short_deadline: None, monkeypatch: pytest.MonkeyPatch
):
    replace = S3Store.replace

    def return_and_replace(store: S3Store, name: str, data: bytes) -> None:
        proxy.always(None)
        replace(store, name, data)

    monkeypatch.setattr(S3Store, "replace", return_and_replace)
    proxy.always(BUSY)
    require_conditional_writes(s3_store)
    assert s3_store.objects() == {}


@pytest.mark.long
def test_other_errors_are_reported_as_such(
    s3_store: S3Store, s3_server: S3Server, proxy: FaultyProxy, short_deadline: None
):
    with (
        aws_environment(s3_server.environment(reader=True)),
        pytest.raises(UserError, match="lack permission for PutObject"),
    ):
        require_conditional_writes(s3_store)
    proxy.always(BUSY)
    with pytest.raises(StorageError, match="PutObject failed: SlowDown"):
        require_conditional_writes(s3_store)
