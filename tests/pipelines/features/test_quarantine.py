"""The quarantine report and the limit of rejected photos."""

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from infra.errors import UserError
from infra.storage.folder import FolderStore
from pipelines.features import quarantine
from pipelines.features.account import Account
from pipelines.features.quarantine import check_max_rejected
from pipelines.features.receipt import Receipt, Rejection, Written

REASONS = ["not an image", "not an image", "too large"]


def account(rejected: int) -> Account:
    """Returns the account of a shard with one written photo and some rejected ones."""
    rows = tuple(Rejection(f"r{i}", f"r{i}.jpg", REASONS[i]) for i in range(rejected))
    return Account.of(Receipt("features-val-000000-0123abcd", 1, "", "", (Written("w", "w.jpg", "", "", ()),), rows))


@pytest.mark.parametrize(("rejected", "cap"), [(0, 0), (1, 0.25), (2, 0.5), (3, 1)])
def test_up_to_the_limit_nothing_is_written(tmp_path: Path, rejected: int, cap: float):
    check_max_rejected(FolderStore(tmp_path), [account(rejected)], 4, cap)
    assert list(tmp_path.iterdir()) == []


def test_above_the_limit_the_error_names_reasons_and_report(tmp_path: Path):
    with pytest.raises(UserError) as caught:
        check_max_rejected(FolderStore(tmp_path), [account(3)], 4, 0.5)
    assert str(caught.value) == (
        "3 of 4 photos are rejected, more than extract.max_rejected (0.5 of them): "
        "2 x 'not an image', 1 x 'too large'; first r0.jpg. "
        f"Fix the photos listed in {tmp_path}/quarantine-over-cap.parquet, "
        "or raise extract.max_rejected, and run again"
    )
    rows = pq.read_table(tmp_path / "quarantine-over-cap.parquet").to_pylist()
    assert [row["reason"] for row in rows] == REASONS
    assert rows[0] == {
        "split": "val",
        "key": "r0",
        "source": "r0.jpg",
        "reason": "not an image",
        "shard": "features-val-000000-0123abcd",
    }


def test_only_rejected_photos_are_an_error_at_any_limit(tmp_path: Path):
    with pytest.raises(UserError, match=r"^3 of 3 photos are rejected, all of them: 2 x 'not an image'"):
        check_max_rejected(FolderStore(tmp_path), [account(3)], 3, 1)


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_the_report_has_the_rows_of_all_shards(monkeypatch: pytest.MonkeyPatch, rows: int):
    monkeypatch.setattr(quarantine, "_ROWS", rows)
    accounts = [account(2), account(0), account(3)]
    report = pq.read_table(io.BytesIO(quarantine.quarantine_report(accounts)))
    assert report == quarantine.quarantine_table(accounts)
    assert report["key"].to_pylist() == ["r0", "r1", "r0", "r1", "r2"]
    none = pq.read_table(io.BytesIO(quarantine.quarantine_report([])))
    assert (none.num_rows, none.schema) == (0, report.schema)


@pytest.mark.parametrize(("sha256", "is_advised"), [("", True), ("0" * 64, False)])
def test_an_option_tries_failed_downloads_again(tmp_path: Path, sha256: str, is_advised: bool):
    rows = (Rejection("w", "https://host/w.jpg", "HTTP status 404", "", sha256),)
    rejecting = Account.of(Receipt("features-val-000000-0", 1, "", "", (), rows))
    with pytest.raises(UserError) as caught:
        check_max_rejected(FolderStore(tmp_path), [rejecting], 9, 0)
    assert ("--extract.retry_downloads true" in str(caught.value)) == is_advised
