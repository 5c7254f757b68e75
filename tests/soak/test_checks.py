"""The final checks of the soak find what is wrong. Those of servers run in `tests/cluster/test_soak.py`."""

from pathlib import Path
from typing import Any

import pytest

from tests.soak.checks import MANY_FAULTS, _account, _available, _flat, _injected
from tests.soak.memory import PERMANENT, Growth
from tests.soak.team import Team
from tests.soak.trouble import Trouble

NO_STACK: Any = None


def team(**state: Any) -> Team:
    return Team(NO_STACK, Path(), Path(), 0, **state)


@pytest.mark.parametrize(
    ("photos", "accounted", "is_met"), [(44, (43, 1), True), (44, (43, 0), False), (0, (0, 0), False)]
)
def test_photos_are_accounted_against_the_data_set(photos: int, accounted: tuple[int, int], is_met: bool):
    assert _account(team(photos=photos, accounted=accounted))[1] == is_met


@pytest.mark.parametrize(("responses", "is_met"), [({200: 9, 503: 1}, True), ({200: 1, 0: 9}, False), ({}, False)])
def test_a_service_that_fails_is_found(responses: dict[int, int], is_met: bool):
    assert _available(team(responses=responses))[1] == is_met


def test_a_kind_of_fault_that_never_came_is_found(tmp_path: Path):
    trouble = Trouble(NO_STACK, tmp_path, 0)  # a usual folder, so that no disk can be full
    assert _injected(trouble) == (
        "0, 0 found nothing to do; without " + ", ".join(sorted([*trouble.faults, "disk full"])),
        False,
    )
    trouble.injected = [(1.0, kind, "") for kind in trouble.faults]
    assert _injected(trouble)[1]
    trouble.injected *= MANY_FAULTS
    assert not _injected(trouble)[1]


@pytest.mark.parametrize(
    ("names", "mib_per_hour", "seconds", "is_met"),
    [
        (PERMANENT.values(), 10.0, 2000.0, True),
        (PERMANENT.values(), 100.0, 2000.0, False),
        (["router"], 10.0, 2000.0, False),
        (["router"], 100.0, 100.0, True),
    ],
)
def test_a_process_that_grows_or_is_not_seen_is_found(names: Any, mib_per_hour: float, seconds: float, is_met: bool):
    assert _flat([Growth(name, mib_per_hour, seconds) for name in names])[1] == is_met
