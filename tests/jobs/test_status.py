"""The command `jobs.status`: every table, also if the service of another does not respond."""

import json
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.failures import recorded_failure
from infra.log import bind
from infra.storage.open import open_store
from infra.tracking import RANK_LOG, Tracking, TrackingConfig, connect
from tests.jobs.conftest import Call
from tests.support import feature_sets
from tests.support.faulty_proxy import CUT_BEFORE, faulty_proxy


def test_every_table_is_printed(call: Call, tracking: Tracking, tmp_path: Path):
    feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path))
    tracking.create_run("a training", {})
    tracking.client().create_registered_model("a model")
    code, out, err = call("jobs.status", f"--feature-root={tmp_path}", f"--tracking.uri={tracking.uri}")
    assert (code, err) == (0, "")
    assert f"**feature sets at {tmp_path}; FEATURE-SET/SHARD.receipt.json records the photos of a shard, and" in out
    receipts = [json.loads(path.read_text()) for path in tmp_path.glob("set/*.receipt.json")]
    assert [len(receipt["rejected"][0]["reason"]) > 5 for receipt in receipts if receipt["rejected"]] == [True]
    assert "| set | finished @" in out
    assert f"**search indexes at {tmp_path}/build/indexes**: none" in out
    assert "| a training | running |" in out
    assert "| a model | 0 | none |" in out


def test_what_failed_is_printed_with_its_command(call: Call, tracking: Tracking, tmp_path: Path):
    bind(command="shan extract --dataset d.json")
    with pytest.raises(UserError), recorded_failure(open_store(f"{tmp_path}/set")):
        raise UserError("too many are rejected; fix them")
    run = tracking.create_run("a training", {f"{RANK_LOG}0": "10.0.0.1:/tmp/rank.log"})
    arguments = f"--feature-root={tmp_path}", f"--tracking.uri={tracking.uri}"
    _, out, _ = call("jobs.status", *arguments)
    assert f"| {run} | 0 | 10.0.0.1 | /tmp/rank.log |" in out
    with pytest.raises(UserError), tracking.running(run):
        raise UserError("loss is nan; lower it")
    code, out, err = call("jobs.status", "--failed", *arguments)
    assert (code, err) == (0, "")
    first, second = out.strip().split("\n\n**")
    assert f"{tmp_path}/set" in first
    assert "too many are rejected" in first
    assert "resume: shan extract --dataset d.json" in first
    assert second.startswith(f"run {run} (a training), failed**")
    assert "log of rank 0: 10.0.0.1:/tmp/rank.log" in second


def test_one_unreachable_service_does_not_hide_the_others(call: Call, tmp_path: Path):
    feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path))
    away = "http://127.0.0.1:9"
    code, out, err = call("jobs.status", f"--feature-root={tmp_path}", f"--tracking.uri={away}", f"--address={away}")
    assert code == 2
    assert "| set | finished @" in out
    (line,) = err.splitlines()
    assert f"tracking.uri {away} is unreachable" in line
    assert f"the Ray cluster at {away} is unreachable" in line


def test_a_log_in_json_has_no_password(call: Call, tmp_path: Path):
    away = "http://me:hunter2@127.0.0.1:9"
    arguments = f"--feature-root={tmp_path}", f"--tracking.uri={away}", "--log-format=json"
    for more in ((), ("--failed",)):
        code, out, err = call("jobs.status", *arguments, *more)
        events = [json.loads(line) for line in err.splitlines()]
        assert (code, events[0]["event"], events[-1]["event"]) == (2, "job_started", "job_failed")
        assert "http://127.0.0.1:9 is unreachable" in events[-1]["message"]
        assert "hunter2" not in out + err


def test_a_server_that_fails_in_part_shows_the_rest(call: Call, mlflow_uri: str, tmp_path: Path, monkeypatch):
    connect(TrackingConfig(uri=mlflow_uri)).client().create_registered_model("shown by status")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with faulty_proxy(mlflow_uri) as proxy:
        proxy.next(CUT_BEFORE, 100, path="/mlflow/runs/search")
        code, out, err = call("jobs.status", f"--feature-root={tmp_path}", f"--tracking.uri={proxy.endpoint}")
    assert code == 2
    assert "**feature sets at" in out
    assert "| shown by status |" in out
    (line,) = err.splitlines()
    assert f"tracking.uri {proxy.endpoint} is unreachable (" in line


def test_stores_that_do_not_exist_are_empty_and_stay_so(call: Call, tmp_path: Path):
    code, out, _ = call("jobs.status", "--index-root=typo", f"--tracking.uri=sqlite:///{tmp_path}/mlflow.db")
    assert code == 0
    assert f"**feature sets at {tmp_path}/build/features**: none, the folder does not exist\n" in out
    assert f"**search indexes at {tmp_path}/typo**: none, the folder does not exist\n" in out
    assert f"**trainings and models**: none, tracking.uri sqlite:///{tmp_path}/mlflow.db does not" in out
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_a_file_is_an_error(call: Call, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    code, out, err = call("jobs.status", "--feature-root=file", "--index-root=empty")
    assert (code, err) == (2, "error: --feature-root 'file' is a file; give the folder that contains it\n")
    assert f"**search indexes at {tmp_path}/empty**: none\n" in out
