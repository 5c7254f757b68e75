"""Ray Train's list of checkpoints: only the holder of the lease writes it."""

import asyncio
import pickle
from pathlib import Path

import pytest
from pyarrow.fs import FileSystem, LocalFileSystem, S3FileSystem
from ray.train import Checkpoint, CheckpointConfig
from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import CheckpointManager
from ray.train.v2._internal.execution.storage import StorageContext
from ray.train.v2._internal.execution.training_report import _TrainingReport

from infra.errors import LeaseLostError
from pipelines.training.leased_files import leased_files
from pipelines.training.run_directory import Lease, open_run_directory
from tests.support.servers import S3Server, aws_environment


def lease_in(output: str) -> Lease:
    return open_run_directory(output, "m-0123456789ab").claim()


async def register(manager: CheckpointManager, files: FileSystem, folder: Path, score: float) -> None:
    folder.mkdir()
    manager.register_checkpoint(_TrainingReport(Checkpoint(str(folder), files), {"score": score}, validation=False))


def test_a_stalled_controller_lists_and_deletes_nothing(tmp_path: Path):
    lease = lease_in(str(tmp_path))
    files, path = leased_files(str(tmp_path), lease)
    storage = StorageContext(path, lease.directory.name, files)
    manager = CheckpointManager(CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="score"), storage)
    first, second = (Path(storage.experiment_fs_path, name) for name in ("epoch-001", "epoch-002"))
    asyncio.run(register(manager, files, first, 1.0))
    listed = Path(storage.checkpoint_manager_snapshot_path).read_bytes()
    lease.directory.acquire_lease()
    with pytest.raises(LeaseLostError, match="another process resumed this run"):
        asyncio.run(register(manager, files, second, 2.0))
    assert Path(storage.checkpoint_manager_snapshot_path).read_bytes() == listed
    assert first.is_dir()


def test_pickled_files_of_a_folder_keep_its_lease(tmp_path: Path):
    lease = lease_in(str(tmp_path))
    files, path = leased_files(str(tmp_path), lease)
    copy = pickle.loads(pickle.dumps(files))  # noqa: S301 - just pickled
    assert isinstance(copy, LocalFileSystem)
    check_lease(copy, f"{path}/list", lease)


def test_pickled_files_of_a_bucket_keep_its_lease(s3_server: S3Server):
    with aws_environment(s3_server.environment()):
        lease = lease_in(f"s3://{s3_server.bucket}/leased")
        files, path = leased_files(f"s3://{s3_server.bucket}/leased", lease)
        copy = pickle.loads(pickle.dumps(files))  # noqa: S301 - just pickled
        assert isinstance(copy, S3FileSystem)  # Ray Train uploads to those in one thread
        check_lease(copy, f"{path}/list", lease)


def check_lease(files: FileSystem, path: str, lease: Lease) -> None:
    """Asserts that files can be written until another process acquires the lease."""
    with files.open_output_stream(path) as file:
        file.write(b"first")
    lease.directory.acquire_lease()
    with pytest.raises(LeaseLostError):
        files.open_output_stream(path)
    with files.open_input_stream(path) as file:
        assert file.read() == b"first"
