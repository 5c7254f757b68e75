"""Commands in this process, in an empty folder: their output, or the line with which they refuse their input."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tests.support.commands import call_command

SPLITS = ("train", "val", "test")
Call = Callable[..., tuple[int, str, str]]
"""Runs a command; returns its exit code, stdout and stderr."""
UserErrorOf = Callable[..., str]
"""Runs a command that must fail, and returns its line."""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Returns a function that runs the command of a module in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(call_command, monkeypatch, capsys)


@pytest.fixture
def user_error(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> UserErrorOf:
    """Returns a function that runs a job in `cwd`, checks that it fails with one line, and returns that line."""
    monkeypatch.chdir(data / "cwd")

    def run(module: str, *arguments: str) -> str:
        code, _, errors = call_command(monkeypatch, capsys, module, *arguments)
        assert code == 2, errors
        (line,) = errors.strip().splitlines()
        assert line.startswith("error: ")
        return line

    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A sound data set of one photo in `photos`; commands run in the empty folder `cwd`."""
    (tmp_path / "cwd").mkdir()
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    images = [{"filename": "a.png", "split": "train", "sentences": [{"raw": "a"}]}]
    (tmp_path / "good.json").write_text(json.dumps({"dataset": "d", "images": images}))
    small = [{"filename": f"{split}.png", "split": split, "sentences": [{"raw": "a"}] * 2} for split in SPLITS]
    fits = [*small, *({"filename": f"{n}.png", "split": "train", "sentences": [{"raw": "a"}]} for n in range(3))]
    for image in fits:
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / str(image["filename"]))
    (tmp_path / "fits.json").write_text(json.dumps({"dataset": "d", "images": fits}))
    (tmp_path / "small.json").write_text(json.dumps({"dataset": "d", "images": small}))
    gone = [*fits, {"filename": "gone.png", "split": "val", "sentences": [{"raw": "b"}]}]
    (tmp_path / "gone.json").write_text(json.dumps({"dataset": "d", "images": gone}))
    return tmp_path
