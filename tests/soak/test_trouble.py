"""The plan of faults follows from its seed."""

from itertools import islice

from tests.soak.trouble import GAP_S, PAUSE_S, plan

KINDS = ("node lost", "driver killed", "S3 paused")


def test_a_seed_gives_one_plan():
    first, again, other = (list(islice(plan(seed, KINDS), 30)) for seed in (3, 3, 4))
    assert first == again != other


def test_each_kind_comes_once_before_any_comes_again():
    planned = list(islice(plan(0, KINDS), 30))
    for start in range(0, 30, 3):
        assert {fault.kind for fault in planned[start : start + 3]} == set(KINDS)
    assert all(GAP_S[0] <= fault.wait_s <= GAP_S[1] for fault in planned)
    assert all(PAUSE_S[0] <= fault.duration_s <= PAUSE_S[1] for fault in planned)
