"""Names of the applications of galleries, and the rule by which every router chooses the same one."""

import pytest

from pipelines.service.generation import (
    SERVICE,
    Generation,
    application_name,
    current_gallery,
    galleries,
    gallery_number,
    serves,
    serves_index,
)

A = application_name(9, Generation("i@0", "models:/m/1"))
B = application_name(10, Generation("j@0", "models:/m/2"))


def test_names_state_the_order_and_what_is_served():
    assert gallery_number(A) == 9
    assert serves(A, Generation("i@0", "models:/m/1"))
    for other in (Generation("i@1", "models:/m/1"), Generation("i@0", "models:/m/1", "num_shares: 2")):
        assert not serves(A, other)
        assert serves_index(A, other)
    assert not serves_index(A, Generation("j@0", "models:/m/1"))
    assert not serves_index(SERVICE, Generation("i@0", "models:/m/1"))
    folders = [Generation(f"/data/me@work/{name}@0", "models:/m/1") for name in ("i", "j")]
    assert not serves_index(application_name(1, folders[0]), folders[1])
    assert gallery_number(SERVICE) is None
    assert galleries({A: "RUNNING", SERVICE: "RUNNING", B: "DEPLOYING"}) == [B, A]


@pytest.mark.parametrize(
    ("states", "present", "current"),
    [
        ({}, "", ""),
        ({SERVICE: "RUNNING"}, "", ""),
        ({A: "RUNNING"}, "", A),
        ({A: "RUNNING", B: "DEPLOYING"}, A, A),
        ({A: "RUNNING", B: "RUNNING"}, A, B),
        ({A: "RUNNING", B: "DEPLOY_FAILED"}, A, A),
        ({A: "UNHEALTHY", B: "DEPLOYING"}, A, A),
        ({A: "UNHEALTHY", B: "DEPLOYING"}, "", A),
        ({A: "DELETING", B: "UNHEALTHY"}, B, B),
        ({A: "DEPLOYING"}, "", A),
        ({B: "DEPLOYING"}, A, B),
        ({A: "DELETING"}, A, A),
    ],
)
def test_the_newest_running_gallery_is_current(states: dict[str, str], present: str, current: str):
    assert current_gallery(states, present) == current
