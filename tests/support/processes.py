"""Drivers and workers of extraction as processes: start them, find them, end them by their id."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ray

from tests.support import ROOT


def start_driver(arguments: list[str], environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """`python -m jobs.extract` on the cluster of this test session, its workers with these variables too."""
    address = ray.get_runtime_context().gcs_address
    job = {"runtime_env": {"env_vars": dict(environment)}}
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.extract", *arguments, f"--cluster.address={address}"],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(environment) | {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job)},
        )


def workers(title: str) -> list[int]:
    """Ids of this session's Ray workers that are at a task or actor of that name (Ray writes it in their title)."""
    found = []
    for pid in children(_raylet()):
        line = command_line(pid)
        if line.startswith("ray::") and title in line:
            found.append(pid)
    return found


def kill(pid: int) -> bool:
    """SIGKILL; False if it had ended by itself."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def wait_until(true: Callable[[], bool], patience_s: float = 60, every_s: float = 0.01) -> None:
    """Raises AssertionError if it does not come true."""
    give_up_at = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < give_up_at, f"it did not come true in {patience_s} s"
        time.sleep(every_s)


def _raylet() -> int:
    session = ray._private.worker._global_node.get_session_dir_path()
    for pid in children(os.getpid()):
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        if line.split(b"\0")[0].endswith(b"/raylet") and session.encode() in line:
            return pid
    raise AssertionError("this session has no raylet")


def command_line(pid: int) -> str:
    """Of a process, or '' if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def children(parent: int) -> Iterator[int]:
    """Ids of the processes that a process has started."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "stat").read_text()
            except OSError:
                continue
            if int(status.rpartition(")")[2].split()[1]) == parent:
                yield int(folder.name)
