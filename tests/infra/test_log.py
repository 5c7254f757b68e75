"""Messages and events: text that people read, JSON that machines read, and neither with credentials."""

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.log import (
    RECENT,
    Format,
    bind,
    binding,
    bound,
    configure,
    event,
    log,
    recent,
    relayed,
    replay,
    worker_environment,
)
from infra.progress import ProgressBar
from tests.support import ROOT

URI = "https://me:hunter2@host/path?token=hunter2"


@pytest.fixture(autouse=True)
def _as_text_again() -> Iterator[None]:
    configure("text")
    yield
    configure("text")


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_text_shows_messages_and_no_events(capsys: pytest.CaptureFixture[str]):
    log.info("100 %% of %s", "it")
    log.warning("odd")
    log.error("at %s", URI)
    event("shard_written", "a shard")
    assert capsys.readouterr().err == "100 % of it\nwarning: odd\nerror: at https://host/path?token=***\n"


def test_json_is_an_object_a_line(capsys: pytest.CaptureFixture[str]):
    configure("json")
    bind(job="extract")
    log.warning("two\nlines")
    with binding(run="r"):
        event("shard_written", "a shard", shard="s", rejected=1, loss=float("nan"))
    event("shard_written", "another")
    first, second, third = events(capsys)
    assert (first["level"], first["event"], first["message"]) == ("warning", "message", "two\nlines")
    assert second.pop("time").endswith("+00:00")
    assert second == {
        "level": "info", "event": "shard_written", "message": "a shard", "job": "extract", "run": "r", "shard": "s",
        "rejected": 1, "loss": "nan",
    }  # fmt: skip
    assert ("run" in third, bound("job"), bound("run")) == (False, "extract", "")


def test_json_has_no_credentials(capsys: pytest.CaptureFixture[str]):
    configure("json")
    bind(command=f"shan train --tracking.uri {URI}")
    log.error("cannot read %s", URI, extra={"store": URI}, exc_info=ValueError(URI))
    event("store_retry", URI, store=URI, stores=[{URI: (URI, [URI])}], error=OSError(URI))
    text = capsys.readouterr().err
    assert "ValueError" in text
    assert "hunter2" not in text + "\n".join(recent())


def test_nested_values_are_json(capsys: pytest.CaptureFixture[str]):
    configure("json")
    event("steps", "s", losses=[float("inf"), 1.5], by_rank={0: None, 1: True}, names={"a"}, path=Path("/p"))
    (found,) = events(capsys)
    assert found["losses"] == ["inf", 1.5]
    assert (found["by_rank"], found["names"], found["path"]) == ({"0": None, "1": True}, ["a"], "/p")


@pytest.mark.parametrize(("log_format", "job"), [("json", "extract"), ("text", None)])
def test_other_processes_have_the_job(log_format: Format, job: str | None):
    configure(log_format, "extract")
    assert bound("job") == "extract"
    code = "from infra.log import log; log.info('here')"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **worker_environment()}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (json.loads(done.stderr)["job"] if job else done.stderr) == (job or "here\n")


def test_json_includes_what_libraries_warn_of(capsys: pytest.CaptureFixture[str]):
    configure("json")
    logging.getLogger("of.a.library").warning("deprecated")
    warnings.warn("slow", UserWarning, stacklevel=1)
    assert [found["level"] for found in events(capsys)] == ["warning", "warning"]


def test_a_bar_is_shown_or_logged(capsys: pytest.CaptureFixture[str]):
    with ProgressBar(desc="extract", total=4, unit="photo") as bar:
        bar.update(4)
    assert "extract: 100%|" in capsys.readouterr().err
    configure("json")
    with ProgressBar(desc="extract", total=4, unit="photo") as bar:
        for _ in range(4):
            bar.update()
    first, last = events(capsys)
    assert (first["event"], first["done"], first["total"]) == ("progress", 0, 4)
    assert last["message"] == "extract: 4 of 4 photos"


def test_the_last_lines_are_kept():
    for number in range(RECENT + 5):
        event("step", f"step {number}")
    assert (len(recent()), recent()[-1]) == (RECENT, f"step {RECENT + 4}")


def test_a_driver_logs_what_a_worker_sends(capsys: pytest.CaptureFixture[str]):
    sent: list[tuple[Any, ...]] = []
    with relayed(lambda *record: sent.append(record), rank=3) as fields:
        log.warning("equal %s", "scores", extra={"epoch": 1})
        fields["step"] = 10
        event("steps", "step 10")
        log.error("at %s", URI, extra={"store": URI})
    assert capsys.readouterr().err == ""
    assert "hunter2" not in str(sent)  # nor in the log file of a rank
    for record in sent[:2]:
        replay(*record)
    assert capsys.readouterr().err == "warning: equal scores\n"
    configure("json")
    replay(*sent[1])
    (found,) = events(capsys)
    assert (found["event"], found["rank"], found["step"]) == ("steps", 3, 10)
