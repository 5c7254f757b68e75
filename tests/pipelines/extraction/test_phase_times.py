"""Speed, queues and bottleneck of the phases, from times that are known."""

import json
import time

import pytest

from pipelines.extraction.phase_times import OPERATORS, PartStopwatch, Phase, PhaseTimes, bottleneck, no_times


def part(start: float, waits: tuple[float, float, float], seconds: dict[str, float]) -> str:
    """Returns the times of a part that waits before each task, whose work takes `seconds` by phase."""
    times, now = [[start, start, {}]], start
    for (_, phases), wait in zip(OPERATORS.items(), waits, strict=True):
        spent = {phase: seconds[phase] for phase in phases}
        begin = now + wait
        now = begin + sum(spent.values())
        times.append([begin, now, spent])
    return json.dumps(times)


SECONDS = {"fetch": 1.0, "decode": 3.0, "detect": 8.0, "pack": 0.5, "put": 0.25}


def test_speeds_and_queues_of_known_times():
    times = PhaseTimes()
    assert times.report() == {}
    times.add(part(0, (0, 8, 0), SECONDS), 16)
    times.add(part(0, (4, 8, 0), SECONDS), 16)
    duration = 4 + 4 + 8 + 8 + 0.75  # of the second part
    found = {phase.name: phase for phase in times.phases()}
    assert {name: phase.photos_per_s for name, phase in found.items()} == {
        name: pytest.approx(16 / seconds) for name, seconds in SECONDS.items()
    }
    assert {name: phase.processes for name, phase in found.items()} == {
        name: pytest.approx(2 * seconds / duration) for name, seconds in SECONDS.items()
    }
    assert found["detect"].queue == pytest.approx(16 / duration)
    assert found["fetch"].queue == found["decode"].queue == pytest.approx(4 / duration)
    assert found["pack"].queue == 0
    report = times.report()
    assert (report["photos"], report["seconds"], report["bottleneck"]) == (32, pytest.approx(duration), "detect")


@pytest.mark.parametrize(
    ("fetches", "detectors", "slowest"), [((1.9, 2), (1.0, 2), "decode"), ((1.9, 8), (0.9, 1), "detect")]
)
def test_bottleneck_has_the_busiest_processes(fetches: tuple[float, int], detectors: tuple[float, int], slowest: str):
    """Parts wait longest for an operator that is idle most of the time, as while its first process starts."""
    phases = [
        Phase("fetch", 1, 0.01, 3.0, fetches[1]),
        Phase("decode", 1, fetches[0], 3.0, fetches[1]),
        Phase("detect", 1, detectors[0], 2.0, detectors[1]),
        Phase("pack", 1, 0.01, 9.0, 1),
        Phase("put", 1, 0.02, 9.0, 1),
    ]
    assert bottleneck(phases) == slowest


@pytest.mark.parametrize(("queues", "slowest"), [((9, 0), "decode"), ((0, 9), "detect")])
def test_a_queue_decides_between_equally_busy_processes(queues: tuple[float, float], slowest: str):
    busy = {"fetch": 0.1, "decode": 0.84, "detect": 0.95, "pack": 0.1, "put": 0.1}
    waits = {"fetch": queues[0], "decode": queues[0], "detect": queues[1], "pack": 9, "put": 9}
    assert bottleneck([Phase(name, 1, busy[name], waits[name], 1) for name in busy]) == slowest


def test_processes_that_work_at_a_time_are_counted():
    times = PhaseTimes()
    for start in (0, 4, 8, 2):  # fetching takes 4 s, detecting 8 s
        times.add(part(start, (0, 0, 0), SECONDS), 1)
    found = {phase.name: phase.most_processes for phase in times.phases()}
    assert found == {"fetch": 2, "decode": 2, "detect": 3, "pack": 1, "put": 1}


def test_copied_parts_do_not_count():
    times = PhaseTimes()
    times.add(json.dumps([[0, 0, {}], [1, 2, {"pack": 1}]]), 5)
    times.add(part(0, (0, 0, 0), SECONDS), 0)
    assert (times.phases(), times.report()) == ([], {})


def test_a_stopwatch_adds_its_task_to_the_row():
    row = {"times": no_times()}
    watch = PartStopwatch(row)
    for _ in range(2):
        with watch("fetch"):
            time.sleep(0.02)
    (queued, (start, end, seconds)) = json.loads(watch.times())
    assert queued[1] <= start <= end
    assert 0.04 <= seconds["fetch"] <= end - start + 0.01
