"""A kept score matrix: the same bytes after a kill and a rerun, and never mixed with another model's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shan_model.score_file import ScoreFile
from shan_model.scoring import identity, score_matrix
from tests.shan_model.test_scoring import LITTLE, regions

SCORER = """
import sys
from pathlib import Path
import torch
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.score_file import ScoreFile
from shan_model.scoring import score_matrix
from shan_model.vocabulary import Vocabulary
from tests.shan_model.conftest import CAPTIONS
from tests.shan_model.test_scoring import LITTLE, regions

torch.manual_seed(0)
torch.set_num_threads(1)
model = SHAN(ModelConfig(region_dim=12, joint_dim=8, word_dim=6), Vocabulary.build(CAPTIONS))
score_matrix(model, regions(2000), CAPTIONS * 100, memory=LITTLE, out=ScoreFile(Path(sys.argv[1]), "test"),
             progress=lambda pairs: print(pairs, flush=True))
"""


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCORER, str(path)], stdout=subprocess.PIPE, text=True)


def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_bytes(tmp_path):
    whole = start(tmp_path / "whole.npy")
    pairs = [int(line) for line in whole.communicate()[0].split()]
    assert whole.returncode == 0
    assert pairs[0] == 0  # nothing was there
    assert sum(pairs) == 2000 * 400

    killed = start(tmp_path / "killed.npy")
    assert killed.stdout is not None
    for _ in range(len(pairs) // 2):
        killed.stdout.readline()
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    rerun = start(tmp_path / "killed.npy")
    after = [int(line) for line in rerun.communicate()[0].split()]
    assert rerun.returncode == 0
    assert after[0] >= sum(pairs[: len(pairs) // 2])  # counted first: what the killed run had finished
    assert sum(after) == 2000 * 400
    assert (tmp_path / "killed.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_file_is_the_matrix_in_its_type(model, captions, tmp_path, dtype):
    expected = score_matrix(model, regions(), captions)
    kept = score_matrix(model, regions(), captions, out=ScoreFile(tmp_path / "scores.npy", "me", dtype))
    assert isinstance(kept, np.memmap)
    stored = np.load(tmp_path / "scores.npy")
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, expected.astype(dtype))


def test_a_finished_file_is_not_scored_again_and_keeps_its_cut(model, captions, tmp_path):
    path, added = tmp_path / "scores.npy", []
    sentences = captions * 100
    score_matrix(model, regions(2000), sentences, memory=LITTLE, out=ScoreFile(path, "me"))
    before = path.stat().st_mtime_ns
    score_matrix(model, regions(2000), sentences, memory=64 << 20, out=ScoreFile(path, "me"), progress=added.append)
    assert added == [2000 * 400]
    assert path.stat().st_mtime_ns == before


def test_refuses_the_file_of_other_scores(model, captions, tmp_path):
    path = tmp_path / "scores.npy"
    score_matrix(model, regions(), captions, out=ScoreFile(path, "one"))
    for other, photos in (
        (ScoreFile(path, "two"), 5),
        (ScoreFile(path, "one", "float16"), 5),
        (ScoreFile(path, "one"), 4),
    ):
        with pytest.raises(ValueError, match=r"holds scores of another model.*delete it with scores\.json"):
            score_matrix(model, regions(photos), captions, out=other)


def test_the_identity_names_all_that_scores_depend_on(model, captions):
    names = [identity(model, captions, features="a")]
    names += [identity(model, captions, features="b"), identity(model, captions[::-1], features="a")]
    model.alignment.project_words.weight.data[0, 0] += 1
    names.append(identity(model, captions, features="a"))
    assert len(set(names)) == 4


def test_refuses_a_name_or_type_that_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"let its name end in \.npy"):
        ScoreFile(tmp_path / "scores.bin", "me")
    with pytest.raises(ValueError, match="choose float16 or float32"):
        ScoreFile(tmp_path / "scores.npy", "me", "int8")


@pytest.fixture
def begun(model, captions, tmp_path) -> Path:
    """A matrix of which the first blocks are done."""
    path, seen = tmp_path / "scores.npy", []

    def stop_after_two(pairs: int) -> None:
        seen.append(pairs)
        if len(seen) == 3:
            raise KeyboardInterrupt

    out = ScoreFile(path, "me")
    with pytest.raises(KeyboardInterrupt):
        score_matrix(model, regions(2000), captions * 100, memory=LITTLE, out=out, progress=stop_after_two)
    return path


@pytest.mark.parametrize(
    ("suffix", "damage", "message"),
    [
        (".npy", lambda data: data[:5000], "do not belong together; delete it with scores.json and scores.done"),
        (".npy", lambda data: data.replace(b"(2000, 400)", b"(400, 2000)"), "do not belong together"),
        (".npy", lambda data: b"nothing", "do not belong together"),
        (".done", lambda data: data + b"1", "do not belong together"),
        (".done", lambda data: b"", "do not belong together"),
        (".json", lambda data: b"", "scores.json is no record of scores; delete it or name another file"),
        (".json", lambda data: b'{"images": []}', "scores.json is no record of scores"),
    ],
)
def test_files_that_were_damaged_are_refused_and_not_touched(begun, model, captions, suffix, damage, message):
    victim = begun.with_suffix(suffix)
    victim.write_bytes(damage(victim.read_bytes()))
    before = {path: path.read_bytes() for path in begun.parent.iterdir()}
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        score_matrix(model, regions(2000), captions * 100, memory=LITTLE, out=ScoreFile(begun, "me"))
    assert {path: path.read_bytes() for path in begun.parent.iterdir()} == before


def test_without_its_matrix_a_record_begins_again(begun, model, captions):
    begun.unlink()
    scores = score_matrix(model, regions(2000), captions * 100, memory=LITTLE, out=ScoreFile(begun, "me"))
    np.testing.assert_array_equal(scores, score_matrix(model, regions(2000), captions * 100, memory=LITTLE))


def test_blocks_that_were_cut_for_more_memory_are_refused(model, captions, tmp_path):
    path, seen = tmp_path / "scores.npy", []
    sentences = captions * 100

    def stop(pairs: int) -> None:
        seen.append(pairs)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_matrix(model, regions(2000), sentences, out=ScoreFile(path, "me"), progress=stop)
    with pytest.raises(ValueError, match="was cut for more memory; allow as much again, or delete it"):
        score_matrix(model, regions(2000), sentences, memory=LITTLE, out=ScoreFile(path, "me"))


def test_somebody_elses_array_is_not_overwritten(model, captions, tmp_path):
    np.save(tmp_path / "mine.npy", np.arange(5))
    with pytest.raises(ValueError, match="is no score matrix of ours; name another file"):
        score_matrix(model, regions(), captions, out=ScoreFile(tmp_path / "mine.npy", "me"))
    np.testing.assert_array_equal(np.load(tmp_path / "mine.npy"), np.arange(5))


def test_one_process_writes_at_a_time(model, captions, tmp_path):
    path = tmp_path / "scores.npy"
    first = ScoreFile(path, "me")
    first.open((5, 4), ((0, 5), (0, 4)))
    with pytest.raises(ValueError, match="is being written by another process; wait"):
        score_matrix(model, regions(), captions, out=ScoreFile(path, "me"))
    first.close()
    score_matrix(model, regions(), captions, out=ScoreFile(path, "me"))


def test_a_place_that_cannot_be_written_is_said(model, captions, tmp_path):
    with pytest.raises(ValueError, match=r"cannot be written \(No such file or directory\); name another"):
        score_matrix(model, regions(), captions, out=ScoreFile(tmp_path / "missing" / "scores.npy", "me"))


def test_a_matrix_for_which_there_is_no_room_is_said_before_work_begins(tmp_path):
    """A limit on the size of files stands for a full disk, which would otherwise end the process by a signal."""
    code = f"""
import resource, signal
from pathlib import Path
from shan_model.score_file import ScoreFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    ScoreFile(Path({str(tmp_path / "scores.npy")!r}), "me").open((1000, 1000), ((0, 1000), (0, 1000)))
except ValueError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "scores.npy: cannot be written (File too large); name another file or make room" in result.stdout
    assert not (tmp_path / "scores.npy").exists()
