"""The actor behind a progress bar."""

from infra.progress import ProgressActor


def test_the_actor_keeps_steps_and_note_and_returns_each_warning_once():
    actor = ProgressActor()
    actor.update(3, "loss 1.5")
    actor.warn("MLflow is unreachable")
    assert actor.state() == (3, "loss 1.5", ["MLflow is unreachable"])
    actor.update(4)
    assert actor.state() == (4, "loss 1.5", [])
