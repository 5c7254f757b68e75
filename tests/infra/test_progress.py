"""The actor behind a progress bar, and the bar that appears with its first count."""

import logging

import pytest

from infra.errors import UserError
from infra.progress import ProgressActor, counted_bar


def test_the_actor_returns_each_message_once():
    actor = ProgressActor("2 workers")
    actor.update(3, "loss 1.5")
    actor.log("shan", logging.WARNING, "MLflow is unreachable", {"rank": 0})
    assert actor.state() == (3, "loss 1.5", [("shan", logging.WARNING, "MLflow is unreachable", {"rank": 0})])
    actor.update(4)
    assert actor.state() == (4, "loss 1.5", [])


def test_the_note_names_what_workers_wait_for():
    actor = ProgressActor("2 workers")
    assert actor.state() == (0, "waiting for 2 workers", [])
    actor.update(0)
    assert actor.state() == (0, "", [])
    actor.update(1, "loss 1.5")
    actor.wait("workers to restart")
    assert actor.state() == (1, "waiting for workers to restart", [])
    actor.update(1)
    assert actor.state() == (1, "loss 1.5", [])


def test_a_request_to_stop_returns_whether_workers_exist():
    actor = ProgressActor("2 workers")
    assert not actor.request_stop()
    assert actor.stop_requested()
    other = ProgressActor("2 workers")
    other.update(0)
    assert not other.stop_requested()
    assert other.request_stop()


def test_a_counted_bar_appears_with_the_first_count(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(UserError), counted_bar("verify", "object"):
        raise UserError("refused before any work")
    assert capsys.readouterr().err == ""
    with counted_bar("verify", "object") as show:
        show(1, 4)
        show(4, 4)
    assert "verify: 100%|" in capsys.readouterr().err
