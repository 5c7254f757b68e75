"""Profiles as artifacts of the MLflow run: the first steps of a session, and the memory of a GPU that ran out of it.

`train.profile_steps` selects the number of steps. An outage of MLflow costs the artifacts, not the training.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from infra.log import event, log
from infra.outages import outage_as_warning
from infra.storage.process_folder import temporary_folder
from infra.tracking import Tracking
from pipelines.training.run_directory import Lease

FOLDER = "profile"
"""Folder of the artifacts."""
WARMUP_STEPS = 5
"""Steps before the profiled ones: the first are slower, and so is the start of the profiler."""
OPERATORS = 10
"""Rows of the table of operators."""


@contextmanager
def profiled(
    steps: int, first_step: int, device: torch.device, tracking: Tracking, run_id: str, lease: Lease
) -> Iterator[Callable[[], object]]:
    """Profiles `steps` steps of the body after WARMUP_STEPS. Yields a function to be called after each step.

    `first_step` is the number of steps that were done before. 0 `steps` profile nothing.
    """
    if not steps:
        yield lambda: None
        return
    logged: list[str] = []
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")

    def save(found: profile) -> None:
        name = f"from-step-{first_step + WARMUP_STEPS + 1:06d}"
        logged.append(name)
        if not lease.is_lost():
            with logged_files(tracking, run_id, "the profile could not be logged") as folder:
                write_profile(found, folder, name, device)

    plan = schedule(wait=0, warmup=WARMUP_STEPS, active=steps, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=save) as profiler:
        yield profiler.step
    if not logged:
        log.warning(
            "train.profile_steps has no effect: the training ended within %d steps, the warm-up of the profiler",
            WARMUP_STEPS,
        )


def write_profile(found: profile, folder: Path, name: str, device: torch.device) -> None:
    """Writes the trace, in Chrome's format, and the table of the operators that took the most time themselves."""
    found.export_chrome_trace(str(folder / f"trace-{name}.json.gz"))
    kind = "cuda" if device.type == "cuda" else "cpu"
    table = found.key_averages().table(sort_by=f"self_{kind}_time_total", row_limit=OPERATORS)
    (folder / f"operators-{name}.txt").write_text(table, encoding="utf-8")


def record_allocations(steps: int) -> None:
    """Records the stack of every allocation on this process's GPU if steps are profiled; it costs time and memory."""
    if steps and torch.cuda.is_available():
        torch.cuda.memory._record_memory_history()  # noqa: SLF001 - documented, without a public name


def log_memory(tracking: Tracking, run_id: str, rank: int) -> None:
    """Logs the memory of this process's GPU, after an error of its allocator. Has not been run on a GPU."""
    if not torch.cuda.is_available():
        return
    with logged_files(tracking, run_id, "the memory of the GPU could not be logged") as folder:
        write_memory(torch.cuda.memory._snapshot(), folder, rank)  # noqa: SLF001 - documented, without a public name


def write_memory(snapshot: dict[str, Any], folder: Path, rank: int) -> None:
    """Writes a snapshot of torch's allocator as JSON, and its segments as text."""
    from torch.cuda._memory_viz import segsum

    with gzip.open(folder / f"memory-rank-{rank}.json.gz", "wt", encoding="utf-8") as file:
        json.dump(snapshot, file, default=str)
    (folder / f"memory-rank-{rank}.txt").write_text(segsum(snapshot), encoding="utf-8")


@contextmanager
def logged_files(tracking: Tracking, run_id: str, consequence: str) -> Iterator[Path]:
    """Yields a folder whose files become artifacts. Any failure is a warning of its consequence."""
    with outage_as_warning(consequence), temporary_folder("shan-profile-") as folder:
        yield folder
        tracking.client().log_artifacts(run_id, str(folder), FOLDER)
        names = sorted(path.name for path in folder.iterdir())
        event("profile_logged", f"artifacts {', '.join(f'{FOLDER}/{name}' for name in names)}", files=names)
