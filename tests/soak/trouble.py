"""Faults of the stack by a seeded plan: lost nodes, killed drivers and shares, paused servers, a full disk."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.support.clusters import tree
from tests.support.processes import command_line, kill
from tests.support.stack import NODE_CPUS, Stack

GAP_S = (15.0, 40.0)
"""Least and most seconds between the end of a fault and the next one."""
PAUSE_S = (5.0, 20.0)
"""Least and most seconds for which a server is paused or a disk is full."""
DISK_FULL, DISK_MB = "disk full", 64


class Planned(NamedTuple):
    """A fault that is to come."""

    wait_s: float
    """Seconds between the end of the fault before and this one."""
    kind: str
    duration_s: float
    """Seconds of a pause, of a full disk, or until another node replaces a lost one."""


def plan(seed: int, kinds: Collection[str]) -> Iterator[Planned]:
    """Yields the faults of a seed without end. Each kind comes once, in random order, before any comes again."""
    draw = random.Random(seed)  # noqa: S311 - a plan, not a secret
    while True:
        for kind in draw.sample(sorted(kinds), len(kinds)):
            yield Planned(draw.uniform(*GAP_S), kind, draw.uniform(*PAUSE_S))


@dataclass
class Trouble:
    """Injects one fault after the other until its time is over.

    Kinds and times follow from the seed. Which of several processes is hit also depends on which ones run then.
    """

    stack: Stack
    cache: Path
    """Folder of the shard caches of all nodes, which is a disk of its own where it may be mounted."""
    seed: int
    injected: list[tuple[float, str, str]] = field(default_factory=list)
    """Seconds since the start, the kind of fault, and what was done."""
    skipped: list[str] = field(default_factory=list)
    """Kinds of faults that found nothing to do, such as a driver to kill."""

    def __post_init__(self) -> None:
        """Prepares the choice of processes, which takes no numbers from the plan."""
        self._draw = random.Random(self.seed)  # noqa: S311 - not a secret

    def run(self, until: float, end: threading.Event) -> None:
        """Injects faults until a time, or until the end if that comes before."""
        start = time.monotonic()
        for fault in plan(self.seed, self.faults):
            if end.wait(fault.wait_s) or time.monotonic() > until:
                return
            what = self.faults[fault.kind](fault.duration_s)
            if what:
                self.injected.append((time.monotonic() - start, fault.kind, what))
            else:
                self.skipped.append(fault.kind)

    @property
    def faults(self) -> dict[str, Callable[[float], str]]:
        """The kinds of faults. Each takes its duration and returns what it did; "" if it found nothing to do it to."""
        found = {
            "node lost": self._lose_node,
            "driver killed": lambda _: self._kill_driver(),
            "share killed": lambda _: self._kill_share(),
            "S3 paused": lambda seconds: self._pause(seconds, "/bin/weed mini"),
            "MLflow paused": lambda seconds: self._pause(seconds, "/bin/mlflow server"),
            "PostgreSQL paused": lambda seconds: self._pause(seconds, "/bin/postgres -D"),
        }
        return found | ({DISK_FULL: self._fill_disk} if os.path.ismount(self.cache) else {})

    def _lose_node(self, seconds: float) -> str:
        cluster = self.stack.cluster
        node = self._draw.choice([node for node in cluster.nodes if node.poll() is None])
        cluster.lose(node)
        time.sleep(seconds)
        cluster.add_node(NODE_CPUS, cluster.hosts[node.pid])
        return f"process {node.pid}, replaced after {seconds:.0f} s"

    def _kill_driver(self) -> str:
        assert self.stack.cluster.head is not None
        lines = {pid: command_line(pid) for pid in tree(self.stack.cluster.head.pid)}
        found = [pid for pid, line in lines.items() if " -m jobs." in line and "jobs.serve" not in line]
        return self._killed(found)

    def _kill_share(self) -> str:
        pids = [pid for node in self.stack.cluster.nodes if node.poll() is None for pid in tree(node.pid)]
        return self._killed([pid for pid in pids if "share-" in command_line(pid)])

    def _killed(self, pids: list[int]) -> str:
        if not pids:
            return ""
        pid = self._draw.choice(pids)
        line = command_line(pid)
        return line[:80].strip() if kill(pid) else ""

    def _pause(self, seconds: float, program: str) -> str:
        """Stops all processes of a server for some seconds; `program` is in the command line of the first."""
        first = [pid for pid in tree(os.getpid()) if program in command_line(pid)]
        pids = [*first, *(child for pid in first for child in tree(pid))]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return f"{len(pids)} processes for {seconds:.0f} s" if pids else ""

    def _fill_disk(self, seconds: float) -> str:
        file = self.cache / "filled"
        with suppress(OSError), file.open("wb") as output:
            while True:
                output.write(bytes(2**20))
        time.sleep(seconds)
        file.unlink()
        return f"the shard cache, for {seconds:.0f} s"


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Makes a folder a disk of DISK_MB where this user may mount one, and a usual folder otherwise."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    is_mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield folder
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
