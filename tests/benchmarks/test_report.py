"""Rows, tables and JSON of the benchmarks, and what happens when a benchmark fails."""

import json
import math

import pytest

from tests.benchmarks.report import Benchmark, Failure, Measurement, failed, run, table, within, write_json


@pytest.mark.parametrize(("better", "ratio"), [("higher", 2.0), ("lower", 0.5)])
def test_a_ratio_above_one_means_that_ours_is_better(better, ratio):
    row = Measurement("speed", 4, "pairs/s", "peer", 2, better, goal=1)
    assert row.ratio == ratio
    assert row.met is (ratio >= 1)


def test_row_without_peer_has_no_ratio_or_goal():
    row = Measurement("time", 3, "s")
    assert row.ratio is None
    assert row.met is None


@pytest.mark.parametrize(("value", "met"), [(0.0, True), (1e-5, True), (2e-5, False), (math.nan, False)])
def test_a_limit_must_not_be_exceeded(value, met):
    assert within("difference", value, 1e-5).met is met


def test_a_failing_benchmark_is_reported_and_the_next_one_runs(capsys):
    def fails():
        yield Measurement("first", 1, "s")
        raise KeyError("manifest")

    def needs_a_package():
        import a_package_that_does_not_exist  # noqa: F401

    benchmarks = [
        Benchmark("broken", fails),
        Benchmark("incomplete", needs_a_package),
        Benchmark("sound", lambda: [Measurement("second", 2, "s")]),
    ]
    results = list(run(benchmarks))
    assert results == [
        Measurement("first", 1, "s"),
        Failure("broken", "KeyError: 'manifest'", skipped=False),
        Failure("incomplete", "a_package_that_does_not_exist is not installed", skipped=True),
        Measurement("second", 2, "s"),
    ]
    assert "broken: FAILED, KeyError: 'manifest'" in capsys.readouterr().out
    assert failed(results)
    assert not failed(results[2:])


def test_table_shows_value_peer_ratio_and_goal():
    speed, equal = Measurement("speed", 40, "pairs/s", "loop", 10, goal=5), within("difference", 0.0, 1e-5)
    rows = [speed, equal, Failure("memory", "MemoryError: too large", False)]
    assert table(rows).splitlines()[2:] == [
        "| speed | 40 pairs/s | 10 pairs/s (loop) | 4x | 5x: not met |",
        "| difference | 0 | 1e-05 (limit) |  | 1x: met |",
        "| memory | failed: MemoryError: too large | | | |",
    ]


def test_the_json_holds_ratios_and_no_value_that_json_lacks(tmp_path):
    path = tmp_path / "build" / "bench.json"
    results = [
        within("difference", 0.0, 1e-5),
        Measurement("broken", math.nan, "s"),
        Failure("memory", "too large", False),
    ]
    write_json(path, results, device="a card")
    document = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert document["device"] == "a card"
    assert document["commit"]
    assert [row.get("ratio") for row in document["results"]] == [None, None, None]
    assert document["results"][0]["met"] is True
    assert document["results"][1]["ours"] is None
    assert document["results"][2] == {"what": "memory", "error": "too large", "skipped": False}
