"""Faults of the stack by a seeded plan: lost nodes, killed drivers and shares, paused servers, a full disk."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.clusters import tree
from tests.support.processes import command_line, kill
from tests.support.stack import NODE_CPUS, Stack

GAP_S = (15.0, 40.0)
"""Least and most seconds between the end of a fault and the next one."""
PAUSE_S = (5.0, 20.0)
"""Least and most seconds for which a server is paused or a disk is full."""
DISK_MB = 64


@dataclass
class Trouble:
    """Injects one fault after the other until its time is over."""

    stack: Stack
    cache: Path
    """Folder of the shard caches of all nodes, which is a disk of its own where it may be mounted."""
    seed: int
    injected: list[tuple[float, str]] = field(default_factory=list)
    """Seconds since the start, and the fault."""

    def run(self, until: float) -> None:
        """Injects faults until a time. Each kind comes once, in random order, before any comes again."""
        draw, start = random.Random(self.seed), time.monotonic()  # noqa: S311 - a plan, not a secret
        kinds: list[str] = []
        while True:
            time.sleep(draw.uniform(*GAP_S))
            if time.monotonic() > until:
                return
            kinds = kinds or draw.sample(sorted(self.faults), len(self.faults))
            kind = kinds.pop()
            what = self.faults[kind](draw)
            if what:
                self.injected.append((time.monotonic() - start, f"{kind}: {what}"))

    @property
    def faults(self) -> dict[str, Callable[[random.Random], str]]:
        """The kinds of faults. Each returns what it did, or "" if it found nothing to do it to."""
        found = {
            "node lost": self._lose_node,
            "driver killed": self._kill_driver,
            "share killed": self._kill_share,
            "S3 paused": lambda draw: self._pause(draw, "/bin/weed mini"),
            "MLflow paused": lambda draw: self._pause(draw, "/bin/mlflow server"),
            "PostgreSQL paused": lambda draw: self._pause(draw, "/bin/postgres -D"),
        }
        return found | ({"disk full": self._fill_disk} if os.path.ismount(self.cache) else {})

    def _lose_node(self, draw: random.Random) -> str:
        cluster = self.stack.cluster
        node = draw.choice([node for node in cluster.nodes if node.poll() is None])
        cluster.lose(node)
        time.sleep(draw.uniform(*PAUSE_S))
        cluster.add_node(NODE_CPUS, cluster.hosts[node.pid])
        return f"process {node.pid}, and another node added"

    def _kill_driver(self, draw: random.Random) -> str:
        assert self.stack.cluster.head is not None
        lines = {pid: command_line(pid) for pid in tree(self.stack.cluster.head.pid)}
        found = [pid for pid, line in lines.items() if " -m jobs." in line and "jobs.serve" not in line]
        return self._killed(draw, found)

    def _kill_share(self, draw: random.Random) -> str:
        pids = [pid for node in self.stack.cluster.nodes if node.poll() is None for pid in tree(node.pid)]
        return self._killed(draw, [pid for pid in pids if "share-" in command_line(pid)])

    def _killed(self, draw: random.Random, pids: list[int]) -> str:
        if not pids:
            return ""
        pid = draw.choice(pids)
        line = command_line(pid)
        return line[:80].strip() if kill(pid) else ""

    def _pause(self, draw: random.Random, program: str) -> str:
        """Stops all processes of a server for some seconds; `program` is in the command line of the first."""
        seconds = draw.uniform(*PAUSE_S)
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

    def _fill_disk(self, draw: random.Random) -> str:
        seconds, file = draw.uniform(*PAUSE_S), self.cache / "filled"
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
