"""A hub that responds too slowly is named and given up; one that sends enough is not."""

import time
from pathlib import Path

import pytest

from infra import hub
from infra.hub import within_rate
from infra.minimum_rate import BYTES_PER_S


def test_a_hub_that_sends_too_little_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "NOTICE_S", 0.0)
    monkeypatch.setattr(hub, "GRACE_S", 0.3)
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "present").write_bytes(bytes(int(60 * BYTES_PER_S)))  # does not count

    def fetch() -> str:
        (blobs / "x.incomplete").write_bytes(bytes(int(60 * BYTES_PER_S)))
        time.sleep(0.8)
        return "fetched"

    assert within_rate("a/b@main", fetch) == "fetched"
    with pytest.raises(TimeoutError, match=rf"^the hub {constants.ENDPOINT} sends less than 1024 bytes per second$"):
        within_rate("a/b@main", lambda: time.sleep(60))
    assert capsys.readouterr().err.startswith(f"waiting for a/b@main of the hub {constants.ENDPOINT} for 0 s\n")
