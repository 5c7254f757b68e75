"""Processes of drivers and Ray workers: start them, find them, kill them by their id."""

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

DEADLINE_S = 480
"""Seconds in which what a test waits for must happen: many times what it takes, as machines differ and are shared."""


def start_driver(arguments: list[str], environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """Starts `python -m jobs.extract` on the session's Ray cluster. The variables are set in its workers, too."""
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
    """Returns the ids of the session's Ray workers whose task or actor has that name, by their process titles."""
    found = []
    for pid in children(_raylet()):
        line = command_line(pid)
        if line.startswith("ray::") and title in line:
            found.append(pid)
    return found


def kill(pid: int) -> bool:
    """Sends SIGKILL. Returns False if the process has ended already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def wait_until(true: Callable[[], bool], timeout_s: float = DEADLINE_S, every_s: float = 0.05) -> None:
    """Waits until a condition holds. Raises AssertionError after `timeout_s` seconds."""
    give_up_at = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < give_up_at, f"the condition did not hold within {timeout_s} s"
        time.sleep(every_s)


def wait_during(driver: "subprocess.Popen[bytes]", log: Path, true: Callable[[], bool], every_s: float = 0.05) -> None:
    """Waits until a condition holds, which a running driver must bring about.

    Raises AssertionError with the driver's log if it ends before, or after DEADLINE_S seconds.
    """
    give_up_at = time.monotonic() + DEADLINE_S
    while not true():
        assert driver.poll() is None, f"the driver ended with code {driver.returncode}:\n{log.read_text()}"
        assert time.monotonic() < give_up_at, f"the condition did not hold in {DEADLINE_S} s:\n{log.read_text()}"
        time.sleep(every_s)


def _raylet() -> int:
    session = ray._private.worker._global_node.get_session_dir_path()
    for pid in children(os.getpid()):
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        if line.split(b"\0")[0].endswith(b"/raylet") and session.encode() in line:
            return pid
    raise AssertionError("this session has no raylet")


def command_line(pid: int) -> str:
    """Returns the command line of a process, or '' if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def children(parent: int) -> Iterator[int]:
    """Yields the ids of the processes that a process has started."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "stat").read_text()
            except OSError:
                continue
            if int(status.rpartition(")")[2].split()[1]) == parent:
                yield int(folder.name)
