"""The file system in which Ray Train keeps the list of a run's checkpoints, fenced by the lease of the run's driver.

Ray Train's controller lists a checkpoint up to some seconds after its upload, for which the lease was checked, and then
deletes older ones. A controller that was stalled in between would replace the list of the driver that has resumed the
run, and delete checkpoints that this list names; Ray Train refuses to resume from such a list.
"""

from typing import TYPE_CHECKING, Any

from pyarrow.fs import FileSystem, LocalFileSystem, S3FileSystem

from pipelines.training.run_directory import Lease

if TYPE_CHECKING:
    from pyarrow import NativeFile


class _Leased(FileSystem):
    """Requires the lease for writes from Python: the list, which is written before any checkpoint is deleted.

    Arrow's own copies, the uploads, are not affected; `CheckpointWriter.upload` requires the lease after each of them.
    """

    lease: Lease

    def open_output_stream(self, path: str, *arguments: Any, **options: Any) -> "NativeFile":
        """Opens a file for writing. Raises LeaseLostError if another process has acquired the lease."""
        self.lease.require()
        return super().open_output_stream(path, *arguments, **options)


class _LeasedFolder(_Leased, LocalFileSystem):
    def __init__(self, lease: Lease) -> None:
        super().__init__()
        self.lease = lease

    def __reduce__(self) -> Any:
        return _LeasedFolder, (self.lease,)


class _LeasedBucket(_Leased, S3FileSystem):
    def __init__(self, settings: dict[str, Any], lease: Lease) -> None:
        super().__init__(**settings)
        self.settings, self.lease = settings, lease

    def __reduce__(self) -> Any:
        return _LeasedBucket, (self.settings, self.lease)


def leased_files(location: str, lease: Lease) -> tuple[FileSystem, str]:
    """Returns the file system of a path or S3 URI and the path in it, as Ray Train's RunConfig takes them.

    It is an instance of Arrow's class, because Ray Train treats folders and buckets differently, and can be pickled.
    """
    files, path = FileSystem.from_uri(location)
    if isinstance(files, S3FileSystem):
        _, (settings,) = files.__reduce__()  # the keyword arguments from which pickle recreates it
        return _LeasedBucket(settings, lease), path
    return _LeasedFolder(lease), path
