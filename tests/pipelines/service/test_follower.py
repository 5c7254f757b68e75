"""Following the champion: a new gallery starts beside the present one, and replaces it only when it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

import pipelines.service.follower
from infra.errors import UserError
from pipelines.service.follower import Following
from pipelines.service.generation import Generation, application_name
from pipelines.service.wanted import Wanted

ONE, TWO = Generation("i@0", "models:/m/1"), Generation("j@0", "models:/m/2")


@dataclass
class Applications:
    """A list of applications, of which those of `failing` do not start."""

    failing: tuple[Generation, ...] = ()
    found: dict[str, tuple[str, str]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def states(self) -> Mapping[str, tuple[str, str]]:
        return dict(self.found)

    def deploy(self, name: str, generation: Generation) -> None:
        self.done.append(f"deploy {name}")
        failed = "DEPLOY_FAILED", "Traceback ...\ninfra.errors.UserError: x is corrupt; build it\nand more"
        self.found[name] = failed if generation in self.failing else ("RUNNING", "")

    def delete(self, name: str) -> None:
        self.done.append(f"delete {name}")
        del self.found[name]


def following(applications: Applications, wanted: list[Wanted]) -> Following:
    """Returns a follower that finds one thing after the other."""
    return Following(lambda: wanted.pop(0), applications, 13.0, lambda seconds: applications.done.append(f"{seconds}"))


def test_the_first_gallery_is_deployed_once():
    applications = Applications()
    follower = following(applications, [Wanted(ONE), Wanted(ONE)])
    follower.step()
    follower.step()
    assert applications.done == [f"deploy {application_name(1, ONE)}"]
    assert follower.problem == ""


def test_an_earlier_gallery_is_deleted_after_its_requests():
    applications = Applications()
    follower = following(applications, [Wanted(ONE), Wanted(TWO, TWO.model)])
    follower.step()
    applications.done.clear()
    follower.step()
    assert applications.done == [f"deploy {application_name(2, TWO)}", "13.0", f"delete {application_name(1, ONE)}"]
    assert (follower.champion, follower.problem) == (TWO.model, "")


def test_a_gallery_that_does_not_start_leaves_the_present_one():
    applications = Applications(failing=(TWO,))
    follower = following(applications, [Wanted(ONE), Wanted(TWO), Wanted(TWO), Wanted(ONE)])
    for _ in range(3):
        follower.step()
        assert list(applications.found) == [application_name(1, ONE)]
    assert follower.problem == "j@0 does not start (x is corrupt; build it)"
    assert sum(done.startswith("deploy") for done in applications.done) == 2  # not tried again at once
    follower.step()
    assert follower.problem == ""


def test_a_rollback_ends_the_start_of_a_gallery(monkeypatch: pytest.MonkeyPatch):
    class Slow(Applications):
        def deploy(self, name: str, generation: Generation) -> None:
            super().deploy(name, generation)
            if generation == TWO:
                self.found[name] = "DEPLOYING", ""

    monkeypatch.setattr(pipelines.service.follower, "LOOK_EVERY_S", 0.0)
    applications = Slow()
    follower = following(applications, [Wanted(ONE), Wanted(TWO), Wanted(TWO), Wanted(ONE), Wanted(ONE)])
    for _ in range(3):
        follower.step()
        assert list(applications.found) == [application_name(1, ONE)]
        assert follower.problem == ""


def test_a_failed_check_keeps_the_reason_of_a_failed_start():
    applications = Applications(failing=(TWO,))
    follower = following(applications, [Wanted(ONE), Wanted(TWO)])
    follower.step()
    follower.step()

    def fail() -> Wanted:
        raise UserError("tracking.uri does not respond")

    follower.find = fail
    follower.step()
    follower.find = lambda: Wanted(TWO)
    follower.step()
    assert follower.problem == "j@0 does not start (x is corrupt; build it)"


def test_a_registry_that_fails_leaves_the_present_gallery():
    applications = Applications()
    follower = following(applications, [Wanted(ONE)])
    follower.step()

    def fail() -> Wanted:
        raise UserError("tracking.uri does not respond")

    follower.find = fail
    follower.step()
    assert list(applications.found) == [application_name(1, ONE)]
    assert follower.problem == "cannot check for a new champion (tracking.uri does not respond)"


def test_a_champion_without_an_index_is_a_problem():
    follower = following(Applications(), [Wanted(ONE, TWO.model, "the champion models:/m/2 has no index")])
    follower.step()
    assert (follower.champion, follower.problem) == (TWO.model, "the champion models:/m/2 has no index")


def test_a_champion_without_an_index_leaves_the_present_one():
    applications = Applications()
    problem = Wanted(ONE, "models:/m/3", "the champion models:/m/3 has no index")
    follower = following(applications, [Wanted(ONE), Wanted(TWO, TWO.model), problem])
    for _ in range(3):
        follower.step()
    assert list(applications.found) == [application_name(2, TWO)]
    assert (follower.champion, follower.problem) == (problem.champion, problem.problem)


def test_an_extension_is_served_while_the_champion_has_no_index():
    applications = Applications()
    more, reason = Generation("i@1", ONE.model), "the champion models:/m/2 has no index"
    follower = following(applications, [Wanted(state, TWO.model, reason) for state in (ONE, more, more)])
    for _ in range(3):
        follower.step()
    assert list(applications.found) == [application_name(2, more)]
    assert follower.problem == reason


def test_other_settings_replace_the_gallery():
    applications = Applications()
    other = replace(ONE, settings="num_shares: 2")
    following(applications, [Wanted(ONE)]).step()
    following(applications, [Wanted(other)]).step()
    assert list(applications.found) == [application_name(2, other)]


def test_a_champion_that_is_no_longer_one_stays():
    applications = Applications()
    follower = following(applications, [Wanted(TWO, TWO.model), Wanted(ONE)])
    follower.step()
    follower.step()
    assert list(applications.found) == [application_name(1, TWO)]
    message = "models:/m/2 is not champion any more, and no other version is; the index that is served stays; promote a"
    assert follower.problem == f"{message} version"


def test_a_follower_that_restarts_finds_what_is_served():
    applications = Applications()
    following(applications, [Wanted(ONE)]).step()
    applications.done.clear()
    following(applications, [Wanted(ONE)]).step()
    assert applications.done == []
