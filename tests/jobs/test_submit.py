"""The command `jobs.submit` without a cluster: what can be submitted, and its own exit code.

`tests/cluster/test_submit.py` runs jobs.
"""

import json
import logging
from collections.abc import Iterator

import pytest

import jobs.submit
from infra import ray_jobs
from jobs.main import COMMANDS
from jobs.submit import ACTIONS, UNREACHABLE
from jobs.submit import COMMANDS as SUBMITTED
from tests.jobs.conftest import Call, UserErrorOf
from tests.support.servers import free_ports
from tests.support.web_server import ray_head_that_rejects


@pytest.fixture(autouse=True)
def _messages_of_ray() -> Iterator[None]:
    """Shows the messages again that the command hides in its process."""
    yield
    logging.disable(logging.NOTSET)


def test_commands_that_run_on_a_cluster_can_be_submitted():
    assert set(SUBMITTED) == set(COMMANDS) - {"quickstart", "status", "submit"}
    assert not set(SUBMITTED) & set(ACTIONS)


@pytest.mark.parametrize("command", ["trian", "quickstart", ""])
def test_another_command_is_refused(call: Call, command: str):
    code, out, err = call("jobs.submit", command)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: COMMAND is {command!r}; give one of ")
    assert len(err.splitlines()) == 1


def test_help_lists_commands_and_actions(call: Call):
    code, out, _ = call("jobs.submit", "--help")
    assert code == 0
    assert all(command in out for command in (*SUBMITTED, *ACTIONS))


@pytest.mark.parametrize("arguments", [["train", "--features=x", "--name=y"], ["status"], ["logs", "train-0.1"]])
def test_an_unreachable_cluster_has_its_own_exit_code(call: Call, arguments: list[str]):
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    code, out, err = call("jobs.submit", *arguments, f"--address={address}")
    assert (code, out) == (UNREACHABLE, "") == (3, "")
    (line,) = err.splitlines()
    assert line.startswith(f"error: the Ray cluster at {address} is unreachable or rejects requests (")
    assert "give --address as http://<head>:8265" in line


def test_an_unreachable_address_is_named_without_its_password(call: Call):
    (port,) = free_ports(1)
    _, _, err = call("jobs.submit", "status", f"--address=http://me:hunter2@127.0.0.1:{port}")
    assert err.startswith(f"error: the Ray cluster at http://127.0.0.1:{port} is unreachable")
    assert "hunter2" not in err


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (["--log-format", "json", "a"], ["a", "--log-format=json"]),
        (["--log-format=json", "--", "--a"], ["--log-format=json", "--", "--a"]),
        (["--log-format=text", "a"], ["a"]),
    ],
)
def test_a_submitted_job_has_the_log_format(
    given: list[str], passed: list[str], call: Call, monkeypatch: pytest.MonkeyPatch
):
    submitted: list[list[str]] = []
    monkeypatch.setattr(jobs.submit, "job_client", lambda address: address)
    monkeypatch.setattr(jobs.submit, "submit", lambda _, job, rest: submitted.append([job, *rest]) or "train-0.1")
    code, out, _ = call("jobs.submit", "train", "--detach", *given)
    assert (code, out, submitted) == (0, "train-0.1\n", [["train", *passed]])


def test_messages_of_submissions_are_json(call: Call):
    (port,) = free_ports(1)
    arguments = ["status", f"--address=http://127.0.0.1:{port}", "--log-format=json"]
    code, _, err = call("jobs.submit", *arguments)
    found = json.loads(err)
    assert (code, found["event"], found["job"]) == (UNREACHABLE, "job_failed", "submit")
    assert found["exit_code"] == UNREACHABLE


def test_a_defect_is_not_an_unreachable_cluster(call: Call, monkeypatch: pytest.MonkeyPatch):
    def defect() -> None:
        raise NotImplementedError("a defect")

    monkeypatch.setattr(ray_jobs, "packed_code", defect)
    with ray_head_that_rejects() as address, pytest.raises(NotImplementedError, match="a defect"):
        call("jobs.submit", "train", f"--address={address}")


@pytest.mark.parametrize("arguments", [["status", "a", "b"], ["logs"], ["stop", "a", "--force"]])
def test_actions_take_one_submission_id(user_error: UserErrorOf, arguments: list[str]):
    assert f"takes one submission id, not '{' '.join(arguments[1:])}'" in user_error("jobs.submit", *arguments)


def test_an_address_that_is_not_a_url_is_a_user_error(call: Call):
    code, out, err = call("jobs.submit", "status", "--address=head")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
