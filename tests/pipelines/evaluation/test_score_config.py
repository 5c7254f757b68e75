"""Errors of the scoring settings name the field."""

from pathlib import Path

import pytest

from pipelines.evaluation.score_config import ScoreConfig


@pytest.mark.parametrize(
    "bad",
    [
        {"cache_file": "scores.txt"},
        {"cache_dtype": "float16"},
        {"num_actors": -1},
        {"memory_mb": 0},
        {"actor_gpus": 2},
        {"actor_gpus": 1},
    ],
)
def test_a_bad_value_is_an_error_that_names_the_field(bad: dict[str, object]):
    with pytest.raises(ValueError, match=f"score.{next(iter(bad))} is"):
        ScoreConfig(**bad)  # type: ignore[arg-type]
    assert not Path("scores.txt").exists()


def test_the_cache_file_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert ScoreConfig(cache_file="scores.npy").cache_file == str(tmp_path / "scores.npy")
