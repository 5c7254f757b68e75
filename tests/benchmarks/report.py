"""Runs benchmarks; prints their measurements as a table, and writes them as JSON. One that fails costs its own only."""

import json
import math
import subprocess
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple


@dataclass(frozen=True)
class Measurement:
    """One measurement: our value, and the value of a peer or a limit in the same unit."""

    what: str
    ours: float
    unit: str
    peer: str = ""
    """Name of the peer or the limit; empty: none."""
    peer_value: float | None = None
    better: Literal["higher", "lower"] = "higher"
    """Whether a higher or a lower value is better."""
    goal: float | None = None
    """Least ratio to the peer; None: no goal."""

    @property
    def ratio(self) -> float | None:
        """Ratio to the peer: above 1, ours is better. None without a peer."""
        if self.peer_value is None:
            return None
        above, below = (self.ours, self.peer_value) if self.better == "higher" else (self.peer_value, self.ours)
        return above / below if below else math.inf

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal. A NaN reaches no goal."""
        return None if self.goal is None or self.ratio is None else self.ratio >= self.goal


class Failure(NamedTuple):
    """A benchmark that did not run to its end."""

    what: str
    error: str
    """One line."""
    skipped: bool
    """Whether it was left out because a package is not installed."""


class Benchmark(NamedTuple):
    """One measurement, or a few that belong together."""

    name: str
    measure: Callable[[], Iterable[Measurement]]


def within(what: str, ours: float, limit: float, unit: str = "") -> Measurement:
    """Returns a measurement whose value must not exceed a limit."""
    return Measurement(what, ours, unit, "limit", limit, "lower", goal=1)


def run(benchmarks: Iterable[Benchmark]) -> Iterator[Measurement | Failure]:
    """Runs benchmarks one after the other and prints each result as it comes.

    An exception in a benchmark becomes a `Failure` and the next one runs; a package that is not installed is reported
    as skipped.
    """
    for benchmark in benchmarks:
        try:
            for measurement in benchmark.measure():
                print(_line(measurement), flush=True)
                yield measurement
        except ModuleNotFoundError as error:
            print(f"{benchmark.name}: skipped, {error.name} is not installed", flush=True)
            yield Failure(benchmark.name, f"{error.name} is not installed", skipped=True)
        except Exception as error:  # noqa: BLE001 - whatever a benchmark raises, the next one runs
            traceback.print_exc()
            message = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            print(f"{benchmark.name}: FAILED, {message}", flush=True)
            yield Failure(benchmark.name, message, skipped=False)


def table(results: Sequence[Measurement | Failure]) -> str:
    """The results as a Markdown table."""
    lines = ["| what | ours | peer or limit | ratio | goal |", "|---|---|---|---|---|"]
    for result in results:
        if isinstance(result, Failure):
            lines.append(f"| {result.what} | {'skipped' if result.skipped else 'failed'}: {result.error} | | | |")
            continue
        peer = "" if result.peer_value is None else f"{_value(result.peer_value, result.unit)} ({result.peer})"
        ratio = "" if result.ratio is None or math.isinf(result.ratio) else f"{result.ratio:.3g}x"
        goal = "" if result.goal is None else f"{result.goal:.3g}x: {'met' if result.met else 'not met'}"
        lines.append(f"| {result.what} | {_value(result.ours, result.unit)} | {peer} | {ratio} | {goal} |")
    return "\n".join(lines)


def write_json(path: Path, results: Sequence[Measurement | Failure], **about: Any) -> None:
    """Writes the results, and what the caller adds about the run, as JSON; values that are not finite become null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {**about, "commit": commit(), "results": [_record(result) for result in results]}
    path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def failed(results: Sequence[Measurement | Failure]) -> bool:
    """Whether a benchmark failed; one that was skipped did not."""
    return any(isinstance(result, Failure) and not result.skipped for result in results)


def commit() -> str:
    """Short hash of HEAD, marked where the tree differs from it; "unknown" outside a git checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/results.md")
        return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _line(of: Measurement) -> str:
    peer = "" if of.ratio is None else f", ratio {of.ratio:.3g} to {of.peer}"
    return f"{of.what}: {_value(of.ours, of.unit)}{peer}"


def _value(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}".rstrip()


def _record(result: Measurement | Failure) -> dict[str, Any]:
    if isinstance(result, Failure):
        return result._asdict()
    fields = {**asdict(result), "ratio": result.ratio, "met": result.met}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in fields.items()
    }
