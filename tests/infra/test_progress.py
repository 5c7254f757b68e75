"""The actor behind a progress bar."""

from infra.progress import ProgressActor


def test_the_actor_keeps_steps_and_note_and_returns_each_warning_once():
    actor = ProgressActor("2 workers")
    actor.update(3, "loss 1.5")
    actor.warn("MLflow is unreachable")
    assert actor.state() == (3, "loss 1.5", ["MLflow is unreachable"])
    actor.update(4)
    assert actor.state() == (4, "loss 1.5", [])


def test_the_note_says_what_the_work_waits_for_until_a_worker_starts():
    actor = ProgressActor("2 workers")
    assert actor.state() == (0, "waiting for 2 workers", [])
    actor.update(0)
    assert actor.state() == (0, "", [])
    actor.update(1, "loss 1.5")
    actor.wait("workers to restart")
    assert actor.state() == (1, "waiting for workers to restart", [])
    actor.update(1)
    assert actor.state() == (1, "loss 1.5", [])


def test_a_request_to_stop_says_whether_there_are_workers_to_hear_it():
    actor = ProgressActor("2 workers")
    assert not actor.request_stop()
    assert actor.stop_requested()
    other = ProgressActor("2 workers")
    other.update(0)
    assert not other.stop_requested()
    assert other.request_stop()
