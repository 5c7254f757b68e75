"""Jobs submitted to a real Ray head, beside another Ray session: exit codes, logs, reattaching, stopping."""

import io
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import job_log, ray_jobs
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.datasets.scenes.generate import generate
from tests.support import feature_sets
from tests.support.clusters import ENVIRONMENT, local_cluster
from tests.support.processes import DEADLINE_S, ROOT, wait_until
from tests.support.relay import Relay

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    environment = ENVIRONMENT | {"PYTHONPATH": ""}  # jobs run the code that they were submitted with
    with local_cluster(4, environment=environment, dashboard=True) as cluster:
        yield cluster.dashboard


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "jobs.submit", *arguments]


def submit(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | ENVIRONMENT
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def train_options(folder: Path, epochs: int) -> list[str]:
    features = feature_sets.write_set(folder, feature_sets.manifest(folder, 25))
    return [
        f"--features={features.uri}", "--name=submitted", f"--model.region_dim={feature_sets.FEATURE_DIM}",
        "--model.joint_dim=8", "--model.word_dim=8", f"--train.epochs={epochs}", "--train.batch_size=4",
        f"--train.output={folder}/runs", f"--tracking.uri=sqlite:///{folder}/mlflow.db",
    ]  # fmt: skip


def failed_work(address: str, folder: Path, text: str = "") -> list[str]:
    """Returns what `jobs.status --failed` prints, run elsewhere; of it, what contains the text and is in the folder."""
    status = [sys.executable, "-m", "jobs.status", "--failed", f"--address={address}", f"--feature-root={folder}"]
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*status, f"--tracking.uri=sqlite:///{folder}/mlflow.db"], cwd=folder, env=environment, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    return [found for found in done.stdout.split("\n\n**") if text in found and str(folder) in found]


@pytest.mark.long  # test_cluster.py submits its stages one by one
def test_a_pipeline_runs_on_the_cluster_and_its_log_comes_back(address: str, tmp_path: Path):
    dataset = generate(ScenesConfig(train=24, val=8, test=8), tmp_path / "scenes")
    options = [
        f"--dataset={dataset}", f"--photos={tmp_path}/scenes/photos", "--name=submitted", "--model.joint_dim=8",
        "--model.word_dim=8", "--train.epochs=1", "--train.batch_size=8", "--train.num_workers=1",
        f"--extract.output={tmp_path}/features", f"--train.output={tmp_path}/runs",
        f"--tracking.uri=sqlite:///{tmp_path}/mlflow.db",
    ]  # fmt: skip
    done = submit("pipeline", *options, f"--address={address}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"submitted version 1 \(run [0-9a-f]{32}\)", done.stdout)
    assert re.search(r"^champion  models:/submitted", done.stdout, re.MULTILINE)
    name = re.search(r"pipeline-[0-9a-f]{12}\.1", done.stderr)
    assert name
    again = submit("logs", name[0], f"--address={address}")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert f"{name[0]}  succeeded" in submit("status", f"--address={address}").stdout


@pytest.mark.long
def test_user_error_of_job_is_returned_by_submission(address: str, tmp_path: Path):
    lost = submit("train", *train_options(tmp_path, 2), "--train.output=build/runs", f"--address={address}")
    assert lost.returncode == 2, lost.stdout + lost.stderr
    error = re.compile(r"train\.output '/.*/build/runs' would be deleted with this submitted job's folder")
    assert error.search(lost.stdout)
    (name,) = set(re.findall(r"train-[0-9a-f]{12}\.1", lost.stderr))
    (found,) = [text for text in failed_work(address, tmp_path) if name in text]
    assert error.search(found)
    command = found.rstrip().rpartition("resume: ")[2]
    assert re.fullmatch(rf"python -m jobs\.submit train .* --address {address}", command)
    assert "--resume" not in command  # it has no run


@pytest.mark.long
def test_a_failed_training_is_resumed_by_the_printed_command(address: str, tmp_path: Path):
    """Its loss becomes infinite. The config file is on the user's machine, the run on the cluster."""
    config = tmp_path / "mine.yaml"
    config.write_text("train: {learning_rate: 1.0e+30, max_failures: 0}\n")
    options = [*train_options(tmp_path, 2), f"--config={config}"]
    assert submit("train", *options, f"--address={address}").returncode == 2
    run, job = failed_work(address, tmp_path, "submitted")
    lines = {text.rpartition("resume: ")[2].rstrip() for text in (run, job)}
    shown = [set(shlex.split(line)) for line in lines]
    given = {"python", "-m", "jobs.submit", "train", *options, "--address", address, "--resume"}
    assert shown == [given] * len(lines)
    again = submit(*shlex.split(lines.pop())[3:])
    assert again.returncode == 2
    assert "loss" in again.stdout  # it was resumed, and failed again
    (first,), (second,) = (set(re.findall(r"train-[0-9a-f]{12}\.1", text)) for text in (job, again.stderr))
    assert first != second
    _, last = failed_work(address, tmp_path, "submitted")
    assert second in last  # the first attempt is not listed any more
    assert last.rpartition("resume: ")[2].count("--resume") == 1


def test_a_job_outlives_its_terminal_and_can_be_stopped(address: str, tmp_path: Path):
    options = ["train", *train_options(tmp_path, 100_000), f"--address={address}"]
    environment = os.environ | ENVIRONMENT
    log = tmp_path / "log"
    with log.open("wb") as file:
        first = subprocess.Popen(command(*options), cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
    started = re.compile(r"train-[0-9a-f]{12}\.\d")
    wait_until(lambda: bool(started.search(log.read_text())))
    first.send_signal(signal.SIGKILL)
    first.wait()
    (name,) = set(started.findall(log.read_text()))
    second = subprocess.Popen(
        command(*options), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert second.stdout
    assert f"{name} is running; attaching to it" in second.stdout.readline()
    assert submit("stop", name, f"--address={address}").returncode == 0
    said, _ = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 4, said
    (stopped,) = [found for found in failed_work(address, tmp_path) if f"{name}, stopped 20" in found]
    assert re.search(
        rf"resume: python -m jobs\.submit train --features=.* --address {address}( --resume)?$", stopped.rstrip()
    )


COUNT_UNTIL = """
import pathlib, sys, time
line = 0
while not pathlib.Path(sys.argv[1]).exists():
    print("line", line := line + 1, flush=True)
    time.sleep(0.1)
print("the last line", flush=True)
"""
QUIET_UNTIL = """
import pathlib, sys, time
print("first", flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.1)
print("second")
"""


def test_log_lines_survive_a_network_outage(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Connections are refused; then stall; then break after the job has ended and before its log was read."""
    monkeypatch.setattr(job_log, "IDLE_TIMEOUT_S", 5)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    relay, said, codes = Relay(int(address.rpartition(":")[2])), io.StringIO(), list[int]()

    refused = list[Exception]()

    def continues() -> bool:
        return said.tell() > len(before)

    client = ray_jobs.job_client(f"http://127.0.0.1:{relay.port}")
    (tmp_path / "count.py").write_text(COUNT_UNTIL)
    name = client.submit_job(entrypoint=f"python {tmp_path}/count.py {tmp_path}/end")
    ask = client.get_job_info

    def job_info(job: str) -> object:
        try:
            return ask(job)
        except Exception as error:
            refused.append(error)
            raise

    monkeypatch.setattr(client, "get_job_info", job_info)
    monkeypatch.setattr(sys, "stdout", said)
    follower = threading.Thread(target=lambda: codes.append(job_log.follow(client, name)), daemon=True)
    follower.start()
    wait_until(lambda: "line 9" in said.getvalue())
    relay.cut()
    before = said.getvalue()
    wait_until(lambda: len(refused) > 0)
    relay.listen()
    wait_until(continues)
    relay.stall()
    before = said.getvalue()
    wait_until(continues)
    monkeypatch.setattr(job_log, "IDLE_TIMEOUT_S", 120)
    before = said.getvalue()
    wait_until(continues)
    relay.stall()
    (tmp_path / "end").touch()
    wait_until(lambda: client.get_job_status(name).is_terminal(), every_s=0.2)
    assert "the last line" not in said.getvalue()
    relay.drop()
    follower.join(DEADLINE_S)
    monkeypatch.undo()
    assert codes == [0]
    lines = [line for line in said.getvalue().splitlines() if line.startswith(("line", "the last"))]
    assert lines == [*(f"line {number}" for number in range(1, len(lines))), "the last line"]
    assert said.getvalue() == submit("logs", name, f"--address={address}").stdout


@pytest.mark.long
def test_log_of_silent_job_is_fetched_once(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every stream starts with the first byte of the log; its first lines are Ray's own."""
    said, codes = io.StringIO(), list[int]()
    monkeypatch.setattr(job_log, "IDLE_TIMEOUT_S", 4)  # Ray ends a stream some 2 s after its job
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    (tmp_path / "quiet.py").write_text(QUIET_UNTIL)
    client = ray_jobs.job_client(address)
    name = client.submit_job(entrypoint=f"python {tmp_path}/quiet.py {tmp_path}/end")
    wait_until(lambda: "first" in client.get_job_logs(name))
    while_quiet, tail, checks = list[bool](), client.tail_job_logs, list[str]()

    def counted_tail(job: str) -> object:
        printed = "first" in said.getvalue()
        while_quiet.append(printed and not client.get_job_status(job).is_terminal())
        return tail(job)

    def counted_check(*arguments: Any) -> str:
        """Is called after IDLE_TIMEOUT_S without a line."""
        checks.append(ray_jobs.last_log_lines(*arguments))
        return checks[-1]

    monkeypatch.setattr(client, "tail_job_logs", counted_tail)
    monkeypatch.setattr(job_log, "last_log_lines", counted_check)
    monkeypatch.setattr(sys, "stdout", said)
    follower = threading.Thread(target=lambda: codes.append(job_log.follow(client, name)), daemon=True)
    follower.start()
    wait_until(lambda: len(checks) >= 2)
    (tmp_path / "end").touch()
    follower.join(DEADLINE_S)
    monkeypatch.undo()
    assert codes == [0]
    assert re.findall(r"first|second", said.getvalue()) == ["first", "second"]
    assert not any(while_quiet)  # but again after its end, which Ray does not pass on at once


@pytest.mark.long
def test_the_same_command_twice_at_once_is_one_job(address: str, tmp_path: Path):
    options = ["train", *train_options(tmp_path, 100_000), "--detach", f"--address={address}"]
    environment = os.environ | ENVIRONMENT
    both = [
        subprocess.Popen(command(*options), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    names = [process.communicate(timeout=DEADLINE_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert names[0] == names[1]
    assert re.fullmatch(r"train-[0-9a-f]{12}\.1\n", names[0])
    assert submit("stop", names[0].strip(), f"--address={address}").returncode == 0
    wait_until(lambda: "stopped" in submit("status", names[0].strip(), f"--address={address}").stdout, every_s=0.5)
    again = submit(*options).stdout  # another attempt
    assert again == names[0].replace(".1", ".2")
    assert submit("stop", again.strip(), f"--address={address}").returncode == 0


def test_a_cluster_lost_later_is_unreachable(address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    relay = Relay(int(address.rpartition(":")[2]))

    def ask() -> None:
        client = ray_jobs.job_client(f"http://127.0.0.1:{relay.port}")
        relay.cut()
        client.list_jobs()

    with pytest.raises(ray_jobs.UnreachableError, match="is unreachable or rejects requests"):
        ask()


def test_an_unknown_job_is_named(address: str):
    done = submit("logs", "train-0", f"--address={address}")
    assert done.returncode == 2
    assert "the cluster has no job train-0" in done.stderr
