"""Run directories: one claim, fencing tokens, formats."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyarrow.fs import FileSystem

from infra.errors import LeaseLostError, UserError
from infra.tracking import Tracking
from pipelines.training import run_directory
from pipelines.training.run_directory import RunDirectory, open_run, open_run_directory, ray_path
from tests.support.faulty_proxy import CONDITION_IGNORED, CONDITION_NEVER_HOLDS, faulty_proxy
from tests.support.servers import S3Server, aws_environment


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return open_run_directory(str(tmp_path / "runs"), "m-0123456789ab")


def files(directory: RunDirectory) -> set[str]:
    return set(directory.store.objects())


def test_claimed_directory_has_a_lease_and_then_a_run(directory: RunDirectory):
    assert not directory.is_claimed()
    lease = directory.claim()
    assert (lease.token, directory.run_id(), files(directory)) == (1, None, {"lease-000001.json"})
    assert directory.record_run("r", {"version": 1})
    assert (directory.run_id(), files(directory)) == ("r", {"lease-000001.json", "run.json"})
    assert json.loads(directory.store.read("run.json")) == {
        "format": "shan-run/1", "run": "r", "identity": {"version": 1},
    }  # fmt: skip
    assert not directory.record_run("other", {})
    assert directory.run_id() == "r"


def test_later_lease_takes_the_run_from_the_earlier_one(directory: RunDirectory):
    first = directory.claim()
    first.require()
    second = directory.acquire_lease()
    assert (second.token, first.is_lost(), second.is_lost()) == (2, True, False)
    with pytest.raises(LeaseLostError, match=r"m-0123456789ab: lost the lease: another process resumed this run"):
        first.require()
    second.require()


def test_directory_with_a_run_cannot_be_claimed_again(directory: RunDirectory):
    directory.claim()
    directory.record_run("r", {})
    with pytest.raises(UserError, match=r"a run with this configuration exists \(run r\); use --resume to continue it"):
        directory.claim()
    directory.record_result({"version": 1})
    with pytest.raises(UserError, match=r"a run with this configuration has finished \(run r\)"):
        directory.claim()
    assert "lease-000002.json" not in files(directory)


def test_a_claim_without_a_run_expires(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_directory, "CLAIM_S", 0.3)
    killed = directory.claim()
    lease = directory.claim()
    assert lease.token == 2
    with pytest.raises(LeaseLostError):
        killed.require()


def test_of_processes_that_claim_at_once_one_succeeds(directory: RunDirectory):
    def claim(number: int) -> str:
        try:
            lease = directory.claim()
        except UserError as error:
            return str(error)
        directory.record_run(f"r{number}", {})
        return f"token {lease.token}"

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(claim, range(6)))
    assert results.count("token 1") == 1
    run_id = directory.run_id()
    assert sum(f"a run with this configuration exists (run {run_id})" in result for result in results) == 5


def active_runs(tracking: Tracking) -> set[str]:
    return {run.info.run_id for run in tracking.client().search_runs([tracking.experiment_id])}


def test_run_is_created_once(directory: RunDirectory, tracking: Tracking):
    def create() -> str:
        return tracking.create_run("m", {})

    run_id = open_run(directory.claim(), {}, tracking, create)
    assert open_run(directory.acquire_lease(), {}, tracking, create) == run_id
    assert active_runs(tracking) == {run_id}


def test_run_that_cannot_be_recorded_fails(directory: RunDirectory, tracking: Tracking):
    created: list[str] = []

    def create() -> str:
        created.append(tracking.create_run("m", {}))
        folder = Path(directory.uri)
        folder.rename(folder.with_name("moved"))
        folder.write_text("in the way")
        return created[0]

    with pytest.raises(OSError, match="m-0123456789ab"):
        open_run(directory.claim(), {}, tracking, create)
    assert tracking.client().get_run(created[0]).info.status == "FAILED"


def test_process_that_records_its_run_too_late_deletes_it(directory: RunDirectory, tracking: Tracking):
    """It was taken for killed while it waited for MLflow, and another process has resumed."""
    slow = directory.claim()
    recorded: list[str] = []

    def create() -> str:
        recorded.append(open_run(directory.acquire_lease(), {}, tracking, lambda: tracking.create_run("other", {})))
        return tracking.create_run("m", {})

    with pytest.raises(LeaseLostError):
        open_run(slow, {}, tracking, create)
    assert active_runs(tracking) == set(recorded)
    assert directory.run_id() == recorded[0]


def test_checkpoints_that_are_not_wanted_are_deleted(directory: RunDirectory):
    directory.claim()
    directory.record_run("r", {})
    deleted = ("epoch-001-lease-000002/a", "epoch-001-lease-000002/b/c", "step-00000012-lease-000001/a")
    for name in ("epoch-001-lease-000001/a", "notes/a", *deleted):
        directory.store.replace(name, b"1")
    directory.delete_checkpoints({"epoch-001-lease-000001"}.__contains__)
    assert files(directory) == {"epoch-001-lease-000001/a", "notes/a", "lease-000001.json", "run.json"}


@pytest.mark.parametrize("found", [{"run": "r"}, {"run": "r", "format": "shan-run/2"}])
def test_unknown_format_is_an_error_in_one_line(directory: RunDirectory, found: dict[str, str]):
    directory.store.replace("run.json", json.dumps(found).encode())
    with pytest.raises(UserError, match=r"run\.json: format is .*, but this release reads 'shan-run/1'; use") as caught:
        directory.run_id()
    assert "\n" not in str(caught.value)
    directory.store.replace("finished.json", json.dumps(found).encode())
    with pytest.raises(UserError, match=r"finished\.json: format is .*, but this release reads 'shan-run/1'; use"):
        directory.result(dict)


def test_result_is_stored_with_its_format(directory: RunDirectory):
    assert directory.result(dict) is None
    assert not directory.is_finished()
    directory.record_result({"best": 1})
    assert json.loads(directory.store.read("finished.json")) == {"format": "shan-run/1", "best": 1}
    assert directory.result(dict) == {"best": 1}
    assert directory.is_finished()


@pytest.mark.parametrize(
    "content", ['{"run', "[1]", "\xff", '{"format": "shan-run/1"}', '{"format": "shan-run/1", "run": 5}']
)
def test_corrupt_file_is_named(directory: RunDirectory, content: str):
    directory.store.replace("run.json", content.encode("latin-1"))
    with pytest.raises(UserError, match=r"run\.json is corrupt; delete the run directory"):
        directory.run_id()


@pytest.mark.parametrize("name", ["runs", "a b%20c?d#e", "写真"])
def test_ray_train_and_the_store_see_the_same_objects(tmp_path: Path, s3_server: S3Server, name: str):
    """Ray Train takes the root as a URI, whose percent-encoding pyarrow decodes."""
    for output in (str(tmp_path / name), f"s3://{s3_server.bucket}/{tmp_path.name}/{name}"):
        directory = open_run_directory(output, f"shan-{name[0]}-0123456789ab")
        directory.claim()
        filesystem, path = FileSystem.from_uri(ray_path(f"{directory.root}/{directory.name}"))
        with filesystem.open_input_file(f"{path}/lease-000001.json") as file:
            assert file.read() == directory.store.read("lease-000001.json")


def test_no_claim_without_conditional_writes(s3_server: S3Server, tmp_path: Path):
    with (
        faulty_proxy(s3_server.endpoint) as proxy,
        aws_environment({**s3_server.environment(), "AWS_ENDPOINT_URL": proxy.endpoint}),
    ):
        directory = open_run_directory(f"s3://{s3_server.bucket}/{tmp_path.name}", "m-0123456789ab")
        proxy.always(CONDITION_NEVER_HOLDS)
        for take in (directory.claim, directory.acquire_lease):
            with pytest.raises(UserError, match="the store refuses conditional writes"):
                take()
        proxy.always(CONDITION_IGNORED)
        for take in (directory.claim, directory.acquire_lease):
            with pytest.raises(UserError, match="the store ignores the condition of writes"):
                take()
        proxy.always(None)
        assert files(directory) == set()
