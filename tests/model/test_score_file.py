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
from tests.model.test_scoring import LITTLE, regions

SCORER = """
import sys
from pathlib import Path
import torch
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.score_file import ScoreFile
from shan_model.scoring import score_matrix
from shan_model.vocabulary import Vocabulary
from tests.model.conftest import CAPTIONS
from tests.model.test_scoring import LITTLE, regions

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
