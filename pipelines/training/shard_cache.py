"""Shards as files of this node: those of a folder where they lie, those of a bucket in a cache that processes share.

The cache holds `<sha256>.tar`, whatever set a shard belongs to. A shard appears whole and checked (`.part`, locked
while one process downloads, then a rename); `users/` names what each living process holds, under a lock that ends with
it, so that nothing in use is evicted and the cap holds although several begin at once.
"""

import fcntl
import json
import mmap
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from infra.errors import UserError
from infra.storage.base import Store
from infra.storage.folder import FolderStore
from infra.storage.open import require_folder
from pipelines.features.shards import Receipt, check_shard, read_shard, tar_name

DOWNLOADS = 4
"""Shards that a process downloads at once, each held in memory until it is checked."""


@dataclass(frozen=True)
class CacheConfig:
    """Where the nodes keep shards of object storage that training reads."""

    folder: str = "~/.cache/shan"
    """Folder on each node's own disk; all its processes share it."""
    max_gb: float = 100.0
    """Most that it may hold. What was not used for longest goes first; what a process is reading stays."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field and the fix."""
        if not self.max_gb > 0:
            raise ValueError(f"cache.max_gb is {self.max_gb}; it must be positive")


class LocalShards:
    """Memory-mapped shards. They stay on the disk for as long as this object lives."""

    def __init__(self, paths: dict[str, Path], receipts: Sequence[Receipt] = (), held: "IO[str] | None" = None) -> None:
        """Shards with a receipt are checked when they are first read."""
        self._paths, self._held = paths, held
        self._unchecked = {tar_name(receipt.shard): receipt.sha256 for receipt in receipts}
        self._maps: dict[str, memoryview] = {}

    def read(self, name: str, offset: int, size: int) -> memoryview:
        """Bytes of a shard, not copied. UserError if it is damaged."""
        if name not in self._maps:
            with self._paths[name].open("rb") as file:
                shard = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            if name in self._unchecked:
                check_shard(shard, str(self._paths[name]), self._unchecked[name])
            self._maps[name] = shard
        return self._maps[name][offset : offset + size]


def local_shards(
    store: Store, receipts: Sequence[Receipt], config: CacheConfig, progress: Callable[[int], object]
) -> LocalShards:
    """The shards of these receipts as files of this node; `progress` is told of the bytes of each one that is there.

    Raises UserError if they do not fit the cache, or if a download does not have the receipt's checksum.
    """
    if isinstance(store, FolderStore):
        progress(sum(receipt.size for receipt in receipts))
        return LocalShards({tar_name(r.shard): store.root / tar_name(r.shard) for r in receipts}, receipts)
    require_folder(Path(config.folder).expanduser(), "cache.folder")
    folder = Path(config.folder).expanduser().absolute()
    held = _hold(folder, {r.sha256: r.size for r in receipts}, config.max_gb)

    def fetch(receipt: Receipt) -> None:
        _fetch(store, receipt, folder / f"{receipt.sha256}.tar")
        progress(receipt.size)

    with ThreadPoolExecutor(DOWNLOADS) as pool:
        list(pool.map(fetch, receipts))
    return LocalShards({tar_name(r.shard): folder / f"{r.sha256}.tar" for r in receipts}, held=held)


def _hold(folder: Path, sizes: dict[str, int], max_gb: float) -> IO[str]:
    """Notes, until the returned file is closed, that this process needs shards of these checksums; makes room."""
    (folder / "users").mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        others = _in_use(folder)
        needed = sum((others | sizes).values())
        if needed > max_gb * 1e9:
            taken = f", beside what others on this node read {sum(others.values()) / 1e9:.3g} GB" if others else ""
            raise UserError(
                f"cache.max_gb is {max_gb:g}, but the shards have {sum(sizes.values()) / 1e9:.3g} GB{taken}; raise it, "
                "or stream them with train.data_mode=stream"
            )
        held = (folder / "users" / secrets.token_hex(8)).open("w", encoding="ascii")
        fcntl.flock(held, fcntl.LOCK_EX)
        json.dump(sizes, held)
        held.flush()
        for name in sizes:
            if (path := folder / f"{name}.tar").exists():
                os.utime(path)
        _evict(folder, {*others, *sizes}, int(max_gb * 1e9) - needed)
    return held


def _in_use(folder: Path) -> dict[str, int]:
    """Sizes of the shards that living processes hold, by checksum."""
    found: dict[str, int] = {}
    for path in (folder / "users").iterdir():
        with path.open(encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found |= json.load(file)
            else:
                path.unlink()  # its process has ended
    return found


def _evict(folder: Path, keep: set[str], room: int) -> None:
    """Deletes shards that nobody holds, the longest unused first, until they take no more than `room` bytes."""
    for part in folder.glob("*.part"):
        if part.stem not in keep:
            part.unlink()  # of a process that was killed
    idle = sorted((p for p in folder.glob("*.tar") if p.stem not in keep), key=lambda p: p.stat().st_mtime)
    taken = sum(path.stat().st_size for path in idle)
    for path in idle:
        if taken <= room:
            return
        taken -= path.stat().st_size
        path.unlink()


def _fetch(store: Store, receipt: Receipt, path: Path) -> None:
    """Downloads a shard unless it is there, or another process brings it meanwhile."""
    if _is_there(path, receipt):
        return
    part = path.with_suffix(".part")
    with _locked(part) as file:
        if not _is_there(path, receipt):
            data = read_shard(store, tar_name(receipt.shard), receipt.sha256)
            file.truncate(0)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
            return
    part.unlink(missing_ok=True)  # made anew by waiting for one that has become the shard


def _is_there(path: Path, receipt: Receipt) -> bool:
    return path.exists() and path.stat().st_size == receipt.size


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """The body alone has this file among all processes of the node; the kernel frees it if the process dies."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
