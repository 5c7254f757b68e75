"""Memory of processes that live long, over time."""

import os
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.support.clusters import tree
from tests.support.processes import command_line

PERMANENT = {r"^\S+/gcs_server ": "Ray's control store", r"^\S+/raylet .*--head\b": "raylet of the head",
             r"dashboard\.py": "Ray's dashboard", r"ServeController": "Serve's controller",
             r"mlflow": "MLflow server"}  # fmt: skip
"""Processes that no fault ends: an expression for their command line, and what they are."""
WATCHED = PERMANENT | {r"ServeReplica:shan-search:router": "router", r"ServeReplica:shan-search:follower": "follower",
                       r"ServeReplica:shan-gallery": "share", r"^\S+/raylet ": "raylet of a node"}  # fmt: skip
EVERY_S = 10.0


@dataclass(frozen=True)
class Growth:
    """Growth of one process beyond the first third of its samples."""

    name: str
    mib_per_hour: float
    seconds: float
    """Time between the first and the last of these samples."""


@dataclass
class Memory:
    """Samples of the resident memory of WATCHED processes, by process id."""

    samples: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    def watch(self, until: float, end: threading.Event) -> None:
        """Samples until a time, or until the end if that comes before."""
        while not end.wait(EVERY_S) and time.monotonic() < until:
            for pid in tree(os.getpid()):
                name = watched_name(command_line(pid))
                if name and (mib := _resident_mib(pid)):
                    self.names[pid] = name
                    self.samples.setdefault(pid, []).append((time.monotonic(), mib))

    def growth(self) -> list[Growth]:
        """Returns the slope of each process with enough samples, after its first third, when caches are warm."""
        found = []
        for pid, samples in self.samples.items():
            late = np.array(samples[len(samples) // 3 :])
            if len(late) >= 12:
                slope = np.polyfit(late[:, 0], late[:, 1], 1)[0]
                found.append(Growth(self.names[pid], float(3600 * slope), float(late[-1, 0] - late[0, 0])))
        return sorted(found, key=lambda each: -each.mib_per_hour)


def watched_name(line: str) -> str:
    """Returns which of WATCHED a command line is; "" for another process."""
    return next((name for pattern, name in WATCHED.items() if re.search(pattern, line)), "")


def _resident_mib(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, IndexError):
        return 0.0
