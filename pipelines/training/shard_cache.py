"""Local shard cache: shards of object storage as files of this node, shared by all its processes.

The cache holds `<sha256>.tar`, regardless of the feature set. A shard is downloaded to `.part`, which is locked by the
downloading process, verified and renamed. Each process pins the shards that it reads with a file in `pins/`, which it
locks for as long as it lives, so that no shard in use is evicted and concurrent processes stay within the limit.

Shards of a feature set in a folder are read in place.
"""

import fcntl
import json
import math
import mmap
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from infra.errors import UserError
from infra.file_lock import wait_for_lock
from infra.metrics import CACHE_SHARDS
from infra.paths import explained, local_path
from infra.storage.base import Store
from infra.storage.disk import names_full_disk
from infra.storage.folder import FolderStore
from infra.storage.open import require_folder
from pipelines.features.index import IndexedShard
from pipelines.features.layout import tar_name
from pipelines.features.shard_reader import lost_shard, read_published_shard, verify_checksum

DOWNLOADS = 4
"""Concurrent downloads of a process. Each shard is held in memory until it is verified."""
_CACHED = re.compile(r"[0-9a-f]{64}\.(?:tar|part)")
"""A cached shard, by its sha256, or what was downloaded of it."""
_FULL_DISK = "free space, lower cache.max_gb or set another cache.folder"


@dataclass(frozen=True)
class CacheConfig:
    """Local cache of shards from object storage."""

    folder: str = "~/.cache/shan"
    """Folder on each node's local disk, shared by all its processes. `~` is the home folder on that node."""
    max_gb: float = 100.0
    """Size limit in GB. The least recently used shards are evicted; shards that a process reads are not."""

    def __post_init__(self) -> None:
        """Makes `folder` absolute. Raises ValueError or UserError naming the field and the fix."""
        if not self.folder.startswith("~"):
            object.__setattr__(self, "folder", str(local_path(self.folder, "cache.folder")))
        if not 0 < self.max_gb < math.inf:
            raise ValueError(f"cache.max_gb is {self.max_gb}; it must be a positive number")


class LocalShards:
    """Memory-mapped shards. They are not evicted while this object exists."""

    def __init__(
        self, paths: dict[str, Path], shards: Sequence[IndexedShard] = (), pin: "IO[str] | None" = None
    ) -> None:
        """`shards` are verified when they are first read."""
        self._paths, self._pin = paths, pin
        self._unverified = {tar_name(shard.name): shard.sha256 for shard in shards}
        self._maps: dict[str, memoryview] = {}

    def read(self, name: str, offset: int, size: int) -> memoryview:
        """Returns bytes of a shard without copying them. Raises CorruptDataError if the shard is corrupt or lost."""
        if name not in self._maps:
            shard = _mapped(self._paths[name])
            if name in self._unverified:
                verify_checksum(shard, str(self._paths[name]), self._unverified[name])
            self._maps[name] = shard
        return self._maps[name][offset : offset + size]


def _mapped(path: Path) -> memoryview:
    """Returns a shard as memory-mapped bytes; an empty file, which cannot be mapped, as no bytes."""
    try:
        with explained(path), path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError as error:
        raise lost_shard(str(path)) from error


def local_shards(
    store: Store, shards: Sequence[IndexedShard], config: CacheConfig, progress: Callable[[int], object]
) -> LocalShards:
    """Returns shards as files of this node. `progress` is called with the bytes of each shard.

    Raises UserError if they exceed the size limit of the cache, if its folder cannot be used or its disk is full, or if
    a download does not have its receipt's checksum.
    """
    if isinstance(store, FolderStore):
        progress(sum(shard.size for shard in shards))
        return LocalShards({tar_name(s.name): store.root / tar_name(s.name) for s in shards}, shards)
    folder = local_path(config.folder, "cache.folder")
    require_folder(folder, "cache.folder")
    with names_full_disk(folder, _FULL_DISK), _names_unusable_file(folder):
        pin = _pin(folder, {shard.sha256: shard.size for shard in shards}, config.max_gb)

    def fetch(shard: IndexedShard) -> bool:
        with _names_unusable_file(folder):
            is_downloaded = _fetch(store, shard, folder / f"{shard.sha256}.tar")
        progress(shard.size)
        return is_downloaded

    with ThreadPoolExecutor(DOWNLOADS) as pool:
        downloaded = sum(pool.map(fetch, shards))
    CACHE_SHARDS.add(downloaded, result="download")
    CACHE_SHARDS.add(len(shards) - downloaded, result="hit")
    return LocalShards({tar_name(s.name): folder / f"{s.sha256}.tar" for s in shards}, pin=pin)


@contextmanager
def _names_unusable_file(folder: Path) -> Iterator[None]:
    """Raises UserError if a file of the cache belongs to another user, or if its folder is deleted meanwhile."""
    try:
        yield
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        if not str(error.filename).startswith(str(folder)):
            raise
        raise UserError(
            f"cache.folder '{folder}' cannot be used ({error.strerror}: {error.filename}); give this user access to "
            "all of its files, or set another cache.folder"
        ) from error


def _pin(folder: Path, sizes: dict[str, int], max_gb: float) -> IO[str]:
    """Pins the shards of these checksums (with sizes in bytes) until the returned file is closed, and makes room."""
    (folder / "pins").mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        others = _pinned(folder)
        needed = sum((others | sizes).values())
        if needed > max_gb * 1e9:
            pinned = f" and other processes read {sum(others.values()) / 1e9:.3g} GB" if others else ""
            raise UserError(
                f"cache.max_gb is {max_gb:g}, but the shards have {sum(sizes.values()) / 1e9:.3g} GB{pinned}; raise it "
                "or use train.data_mode=stream"
            )
        pin = (folder / "pins" / secrets.token_hex(8)).open("w", encoding="ascii")
        fcntl.flock(pin, fcntl.LOCK_EX)
        json.dump(sizes, pin)
        pin.flush()
        for name in sizes:
            if (path := folder / f"{name}.tar").exists():
                os.utime(path)
        _evict(folder, {*others, *sizes}, int(max_gb * 1e9) - needed)
    return pin


def _pinned(folder: Path) -> dict[str, int]:
    """Returns the sizes of the shards that running processes have pinned, by checksum."""
    found: dict[str, int] = {}
    for path in (folder / "pins").iterdir():
        with path.open(encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found |= json.load(file)
            else:
                path.unlink()  # its process has ended
    return found


def _evict(folder: Path, keep: set[str], room: int) -> None:
    """Deletes the least recently used shards outside `keep`, until those outside take at most `room` bytes.

    Other files of the folder stay.
    """
    others = [path for path in folder.iterdir() if _CACHED.fullmatch(path.name) and path.stem not in keep]
    for path in others:
        if path.suffix == ".part":
            path.unlink()  # left by a process that was killed
    idle = sorted((path for path in others if path.suffix == ".tar"), key=lambda path: path.stat().st_mtime)
    taken = sum(path.stat().st_size for path in idle)
    for path in idle:
        if taken <= room:
            return
        taken -= path.stat().st_size
        path.unlink()


def _fetch(store: Store, shard: IndexedShard, path: Path) -> bool:
    """Downloads a shard, unless it exists or another process downloads it meanwhile. Returns whether it did."""
    if _exists(path, shard):
        return False
    part = path.with_suffix(".part")
    with _locked(part) as file:
        if not _exists(path, shard):
            data = read_published_shard(store, tar_name(shard.name), shard.sha256)
            try:
                with names_full_disk(path, _FULL_DISK):
                    file.truncate(0)
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except BaseException:
                file.truncate(0)  # gives the space back; the file stays, because other processes wait for its lock
                raise
            part.replace(path)
            return True
    part.unlink(missing_ok=True)  # created by waiting for the lock of a download that has finished
    return False


def _exists(path: Path, shard: IndexedShard) -> bool:
    return path.exists() and path.stat().st_size == shard.size


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Locks a file among the processes of this node."""
    with path.open("ab") as file:
        wait_for_lock(file.fileno(), path)
        yield file
