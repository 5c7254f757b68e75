"""Speed, queues and bottleneck of the phases, from times that are known."""

import json
import time

import pytest

from pipelines.extraction.phase_times import OPERATORS, PartStopwatch, PhaseTimes, bottleneck, no_times


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
    ("waits", "slowest"),
    [((9, 0, 0), "decode"), ((9, 9, 0), "detect"), ((9, 9, 9), "pack"), ((0, 0, 0), "detect")],
)
def test_bottleneck_is_the_last_task_with_a_queue(waits: tuple[float, float, float], slowest: str):
    times = PhaseTimes()
    for _ in range(3):
        times.add(part(0, waits, SECONDS), 1)
    assert bottleneck(times.phases()) == slowest


def test_copied_parts_do_not_count():
    times = PhaseTimes()
    times.add(json.dumps([[0, 0, {}], [1, 2, {"pack": 1}]]), 5)
    assert times.phases() == []


def test_a_stopwatch_adds_its_task_to_the_row():
    row = {"times": no_times()}
    watch = PartStopwatch(row)
    for _ in range(2):
        with watch("fetch"):
            time.sleep(0.02)
    (queued, (start, end, seconds)) = json.loads(watch.times())
    assert queued[1] <= start <= end
    assert 0.04 <= seconds["fetch"] <= end - start + 0.01
