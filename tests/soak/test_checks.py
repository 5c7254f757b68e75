"""The final checks of the soak find what is wrong. Those of servers run in `tests/cluster/test_soak.py`."""

import os
from pathlib import Path
from typing import Any

import pytest

from infra.failures import OBJECT
from infra.storage.disk import temporary_file
from pipelines.features.layout import attempts_name, part_name, receipt_name, tar_name
from tests.soak.checks import MANY_FAULTS, Check, _account, _available, _flat, _injected, temporary_objects
from tests.soak.memory import PERMANENT, Growth, watched_name
from tests.soak.team import Team
from tests.soak.trouble import Trouble
from tests.support.clusters import tree
from tests.support.processes import command_line

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
        (set(PERMANENT.values()) - {"raylet of the head"}, 10.0, 2000.0, False),
        (["router"], 100.0, 100.0, None),
    ],
)
def test_a_process_that_grows_or_is_not_seen_is_found(
    names: Any, mib_per_hour: float, seconds: float, is_met: bool | None
):
    assert _flat([Growth(name, mib_per_hour, seconds) for name in names])[1] == is_met


def test_a_check_that_could_not_be_measured_is_printed_as_such():
    assert [Check("c", "", is_met).result for is_met in (True, False, None)] == ["met", "**not met**", "not measured"]


def test_temporary_objects_are_found_by_names_of_the_code(tmp_path: Path):
    shard = "features-train-000001-0123abcd"
    part = part_name(shard, 2, "f" * 64)
    with temporary_file(tmp_path / "index.json", b"{}") as file:
        being_written = file.name
    left = [being_written, attempts_name(shard), OBJECT]
    left += [tar_name(part), receipt_name(part), attempts_name(part)]
    kept = [tar_name(shard), receipt_name(shard), "index.json", "manifest-0123456789ab.parquet", "MLmodel"]
    names = [f"features/flickr-0123456789ab/{name}" for name in [*left, *kept]]
    assert temporary_objects(names) == names[: len(left)]


@pytest.mark.usefixtures("ray_session")
def test_memory_of_the_head_is_watched():
    names = {watched_name(command_line(pid)) for pid in tree(os.getpid())}
    assert {"raylet of the head", "Ray's control store"} <= names
    assert "raylet of a node" not in names
