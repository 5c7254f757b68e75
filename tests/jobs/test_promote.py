"""The command `jobs.promote`: one action at a time, and options without effect are refused."""

import pytest

from infra.registry import champion_version, champions, set_champions
from infra.registry_lock import lock_name
from infra.tracking import Tracking
from tests.jobs.conftest import Call, UserErrorOf

ONE_ACTION = "give exactly one of: --version with --features, --rollback REASON, --unlock"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], ONE_ACTION),
        (["--version=1"], ONE_ACTION),
        (["--features=x"], ONE_ACTION),
        (["--version=1", "--features=x", "--unlock"], ONE_ACTION),
        (["--rollback=bad", "--unlock"], ONE_ACTION),
        (["--rollback=bad", "--features=x"], ONE_ACTION),
        (["--unlock", "--dry-run"], "--dry-run has no effect with --unlock; omit one of them"),
        (["--unlock", "--device=cpu"], "--device has no effect with --rollback and --unlock; omit it"),
        (["--rollback=bad", "--intersect"], "--intersect has no effect with --rollback and --unlock; omit it"),
        (["--rollback=bad", "--champion-features=x"], "--champion-features has no effect with --rollback"),
        (["--version=1", "--features=nowhere"], "nowhere: no finished feature set here"),
        (["--version=one", "--features=x"], "--version is 'one'; give a whole number"),
        (["--version=1", "--features=x", "--promote.split="], "promote.split"),
        (["--version=1", "--features=x", "--score.cache_file=x.npy"], "x.npy, but a promotion scores two models; omit"),
    ],
)
def test_options_that_do_not_fit_are_refused(user_error: UserErrorOf, arguments: list[str], said: str):
    assert said in user_error("jobs.promote", "--name=m", *arguments)


def test_a_model_has_to_be_named(user_error: UserErrorOf):
    assert "name" in user_error("jobs.promote", "--unlock")


@pytest.fixture
def name(tracking: Tracking) -> str:
    """A registered model whose second version has replaced the first as champion."""
    client = tracking.client()
    client.create_registered_model("m")
    for _ in range(2):
        client.create_model_version("m", "file:///x")
    set_champions(tracking, "m", [1, 2])
    return "m"


def test_a_rollback_moves_the_alias_unless_it_is_a_dry_run(call: Call, tracking: Tracking, name: str):
    options = [f"--tracking.uri={tracking.uri}", f"--name={name}", "--rollback=wrong at night"]
    code, out, _ = call("jobs.promote", *options, "--dry-run")
    assert (code, champion_version(tracking, name)) == (0, 2)
    assert out.startswith("dry run, nothing written; without --dry-run: models:/m@champion is version 1: ")
    code, out, _ = call("jobs.promote", *options)
    assert (code, champions(tracking, name)) == (0, [1])
    assert out.startswith("models:/m@champion is version 1: ")
    assert "wrong at night" in out


def test_unlock_names_the_holder_once(call: Call, tracking: Tracking, name: str):
    tracking.client().create_registered_model(lock_name(name), {"owner": "process 1 on a", "since": "then"})
    options = [f"--tracking.uri={tracking.uri}", f"--name={name}", "--unlock"]
    assert call("jobs.promote", *options)[:2] == (0, "models:/m: released the lock of process 1 on a since then\n")
    assert call("jobs.promote", *options)[:2] == (0, "models:/m: the lock is not held\n")
