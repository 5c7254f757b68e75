"""The score cache: the same bytes after a kill and a rerun, and never mixed with the scores of another model."""

import os
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from shan_model.config import ModelConfig
from shan_model.score_cache import ScoreCache, ScoringError
from shan_model.scoring import NEW_FIELDS, identity, score_matrix
from tests.shan_model.test_scoring import LITTLE, regions

SCORER = """
import sys
from pathlib import Path
import torch
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.score_cache import ScoreCache
from shan_model.scoring import score_matrix
from shan_model.vocabulary import Vocabulary
from tests.shan_model.conftest import CAPTIONS
from tests.shan_model.test_scoring import LITTLE, regions

torch.manual_seed(0)
torch.set_num_threads(1)
model = SHAN(ModelConfig(region_dim=12, joint_dim=8, word_dim=6), Vocabulary.build(CAPTIONS))
score_matrix(model, regions(400), CAPTIONS * 50, memory=LITTLE, cache=ScoreCache(Path(sys.argv[1]), "test"),
             progress=lambda pairs: print(pairs, flush=True))
"""


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCORER, str(path)], stdout=subprocess.PIPE, text=True)


@pytest.mark.long
def test_a_killed_run_resumes_and_ends_with_the_same_bytes(tmp_path):
    complete = start(tmp_path / "complete.npy")
    pairs = [int(line) for line in complete.communicate()[0].split()]
    assert complete.returncode == 0
    assert pairs[0] == 0  # the cache was empty
    assert sum(pairs) == 400 * 200

    killed = start(tmp_path / "killed.npy")
    assert killed.stdout is not None
    for _ in range(len(pairs) // 2):
        killed.stdout.readline()
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    rerun = start(tmp_path / "killed.npy")
    after = [int(line) for line in rerun.communicate()[0].split()]
    assert rerun.returncode == 0
    assert after[0] >= sum(pairs[: len(pairs) // 2])  # first, the blocks that the killed run had finished
    assert sum(after) == 400 * 200
    assert (tmp_path / "killed.npy").read_bytes() == (tmp_path / "complete.npy").read_bytes()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_file_holds_the_matrix_in_the_given_type(model, captions, tmp_path, dtype):
    expected = score_matrix(model, regions(), captions)
    cached = score_matrix(model, regions(), captions, cache=ScoreCache(tmp_path / "scores.npy", "me", dtype))
    assert isinstance(cached, np.memmap)
    stored = np.load(tmp_path / "scores.npy")
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, expected.astype(dtype))


def test_a_finished_cache_is_not_scored_again(model, captions, tmp_path):
    path, added = tmp_path / "scores.npy", []
    sentences = captions * 50
    score_matrix(model, regions(400), sentences, memory=LITTLE, cache=ScoreCache(path, "me"))
    before = path.stat().st_mtime_ns
    score_matrix(model, regions(400), sentences, memory=64 << 20, cache=ScoreCache(path, "me"), progress=added.append)
    assert added == [400 * 200]
    assert path.stat().st_mtime_ns == before


def test_a_cache_of_other_scores_is_an_error(model, captions, tmp_path):
    path = tmp_path / "scores.npy"
    score_matrix(model, regions(), captions, cache=ScoreCache(path, "one"))
    for other, photos in (
        (ScoreCache(path, "two"), 5),
        (ScoreCache(path, "one", "float16"), 5),
        (ScoreCache(path, "one"), 4),
    ):
        with pytest.raises(ValueError, match=r"holds scores of another model.*delete it with scores\.json"):
            score_matrix(model, regions(photos), captions, cache=other)


def test_the_identity_names_all_that_scores_depend_on(model, captions):
    names = [identity(model, captions, features="a")]
    names += [identity(model, captions, features="b"), identity(model, captions[::-1], features="a")]
    model.alignment.project_words.weight.data[0, 0] += 1
    names.append(identity(model, captions, features="a"))
    assert len(set(names)) == 4


def test_a_new_config_field_leaves_earlier_cache_files_valid(model, captions):
    """A field that is neither here nor in NEW_FIELDS would make `score.cache_file` of earlier versions invalid."""
    first = "region_dim joint_dim text_encoder hf_model word_dim fixed_word_dim gru_layers normalize variant levels "
    first += "affinity affinity_init temperature context_temperature l2l_weight g2l_weight g2l_scale g2g_scale "
    first += "l2l_pooling gate gate_per_level matcher scan_pooling"
    assert {field.name for field in fields(ModelConfig)} == {*first.split(), *NEW_FIELDS}
    before = identity(model, captions)
    for name, value in NEW_FIELDS.items():
        assert getattr(model.config, name) == value
        model.config = replace(model.config, **{name: value + 1})
        assert identity(model, captions) != before


def test_another_suffix_or_type_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.npy"):
        ScoreCache(tmp_path / "scores.bin", "me")
    with pytest.raises(ValueError, match="choose float16 or float32"):
        ScoreCache(tmp_path / "scores.npy", "me", "int8")


@pytest.fixture
def started(model, captions, tmp_path) -> Path:
    """Returns a cache whose first blocks are finished."""
    path, seen = tmp_path / "scores.npy", []

    def stop_after_two(pairs: int) -> None:
        seen.append(pairs)
        if len(seen) == 3:
            raise KeyboardInterrupt

    cache = ScoreCache(path, "me")
    with pytest.raises(KeyboardInterrupt):
        score_matrix(model, regions(400), captions * 50, memory=LITTLE, cache=cache, progress=stop_after_two)
    return path


@pytest.mark.parametrize(
    ("suffix", "corrupt", "message"),
    [
        (
            ".npy",
            lambda data: data[:5000],
            "does not match the files beside it; delete it with scores.json and scores.done",
        ),
        (".npy", lambda data: data.replace(b"(400, 200)", b"(200, 400)"), "does not match the files beside it"),
        (".npy", lambda data: b"nothing", "does not match the files beside it"),
        (".done", lambda data: data + b"1", "does not match the files beside it"),
        (".done", lambda data: b"", "does not match the files beside it"),
        (".json", lambda data: b"", "scores.json is not the header of a score cache; delete it or choose another file"),
        (".json", lambda data: b'{"images": []}', "scores.json is not the header of a score cache"),
    ],
)
def test_corrupt_files_are_an_error_and_not_changed(started, model, captions, suffix, corrupt, message):
    victim = started.with_suffix(suffix)
    victim.write_bytes(corrupt(victim.read_bytes()))
    before = {path: path.read_bytes() for path in started.parent.iterdir()}
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        score_matrix(model, regions(400), captions * 50, memory=LITTLE, cache=ScoreCache(started, "me"))
    assert {path: path.read_bytes() for path in started.parent.iterdir()} == before


def test_files_of_other_names_stay(tmp_path, model, captions):
    (tmp_path / "r.part").write_bytes(b"a file of the user")
    score_matrix(model, regions(8), captions, cache=ScoreCache(tmp_path / "r.npy", "me"))
    assert (tmp_path / "r.part").read_bytes() == b"a file of the user"
    (tmp_path / "s.done").write_bytes(b"a file of the user")
    with pytest.raises(ScoringError, match=r"s\.done exists and is not that of a score cache; choose another file"):
        score_matrix(model, regions(8), captions, cache=ScoreCache(tmp_path / "s.npy", "me"))
    assert (tmp_path / "s.done").read_bytes() == b"a file of the user"


def test_without_its_matrix_the_cache_starts_again(started, model, captions):
    started.unlink()
    scores = score_matrix(model, regions(400), captions * 50, memory=LITTLE, cache=ScoreCache(started, "me"))
    np.testing.assert_array_equal(scores, score_matrix(model, regions(400), captions * 50, memory=LITTLE))


def test_blocks_that_need_more_memory_are_an_error(model, captions, tmp_path):
    path, seen = tmp_path / "scores.npy", []
    sentences = captions * 50

    def stop(pairs: int) -> None:
        seen.append(pairs)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_matrix(model, regions(400), sentences, cache=ScoreCache(path, "me"), progress=stop)
    with pytest.raises(ValueError, match=r"was started with more memory, .* allow as much memory as before"):
        score_matrix(model, regions(400), sentences, memory=LITTLE, cache=ScoreCache(path, "me"))


def test_an_unrelated_array_is_not_overwritten(model, captions, tmp_path):
    np.save(tmp_path / "mine.npy", np.arange(5))
    with pytest.raises(ValueError, match="exists and is not a score cache; choose another file"):
        score_matrix(model, regions(), captions, cache=ScoreCache(tmp_path / "mine.npy", "me"))
    np.testing.assert_array_equal(np.load(tmp_path / "mine.npy"), np.arange(5))


def test_one_process_writes_at_a_time(model, captions, tmp_path):
    path = tmp_path / "scores.npy"
    first = ScoreCache(path, "me")
    first.open((5, 4), ((0, 5), (0, 4)))
    with pytest.raises(ValueError, match="is being written by another process; wait for it"):
        score_matrix(model, regions(), captions, cache=ScoreCache(path, "me"))
    first.close()
    score_matrix(model, regions(), captions, cache=ScoreCache(path, "me"))


def test_a_file_that_cannot_be_written_is_an_error(model, captions, tmp_path):
    with pytest.raises(ValueError, match=r"cannot be written \(No such file or directory\); choose another"):
        score_matrix(model, regions(), captions, cache=ScoreCache(tmp_path / "missing" / "scores.npy", "me"))


def test_a_full_disk_is_an_error_before_scoring_starts(tmp_path):
    """A limit on file sizes simulates the full disk, which would otherwise kill the process by a signal."""
    code = f"""
import resource, signal
from pathlib import Path
from shan_model.score_cache import ScoreCache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    ScoreCache(Path({str(tmp_path / "scores.npy")!r}), "me").open((1000, 1000), ((0, 1000), (0, 1000)))
except ValueError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "scores.npy: cannot be written (File too large); choose another file or free disk space" in result.stdout
    assert not (tmp_path / "scores.npy").exists()
