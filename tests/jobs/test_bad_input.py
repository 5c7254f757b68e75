"""Bad input, as a user meets it: one line on stderr that names the thing and the fix, exit code 2, nothing written."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from infra.registry import CHAMPION
from infra.tracking import Tracking
from jobs import cli
from tests.support import ROOT, feature_sets

Run = Callable[..., str]
MODEL_COMMANDS = {
    "behaviour": ["--model=m"],
    "evaluate": ["--model=m"],
    "promote": ["--name=m", "--version=1"],
    "search": ["--model=m", "q"],
    "rerank": ["--model=m"],
}
"""Commands that run a model, and their required arguments."""


@pytest.fixture
def run(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Returns a function that runs a job in `cwd`, checks that it fails with one line, and returns that line."""
    monkeypatch.chdir(data / "cwd")

    def run_(module: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.run(importlib.import_module(module).main)
        errors = capsys.readouterr().err
        assert caught.value.code == 2, errors
        (line,) = errors.strip().splitlines()
        assert line.startswith("error: ")
        return line

    return run_


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A sound data set of one photo in `photos`; commands run in the empty folder `cwd`."""
    (tmp_path / "cwd").mkdir()
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    images = [{"filename": "a.png", "split": "train", "sentences": [{"raw": "a"}]}]
    (tmp_path / "good.json").write_text(json.dumps({"dataset": "d", "images": images}))
    splits = ("train", "val", "test")
    small = [{"filename": f"{split}.png", "split": split, "sentences": [{"raw": "a"}] * 2} for split in splits]
    fits = [*small, *({"filename": f"{n}.png", "split": "train", "sentences": [{"raw": "a"}]} for n in range(3))]
    for image in fits:
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / str(image["filename"]))
    (tmp_path / "fits.json").write_text(json.dumps({"dataset": "d", "images": fits}))
    (tmp_path / "small.json").write_text(json.dumps({"dataset": "d", "images": small}))
    gone = [*fits, {"filename": "gone.png", "split": "val", "sentences": [{"raw": "b"}]}]
    (tmp_path / "gone.json").write_text(json.dumps({"dataset": "d", "images": gone}))
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--dataset=../good.json", "--photos=../nowhere"], "../nowhere: no such photo folder; give the folder"),
        (
            ["--dataset=../gone.json", "--photos=../photos"],
            "1 of 7 photos of data set d do not exist, more than extract.max_rejected (0.01 of them): gone.png; give",
        ),
        (["--dataset=../none.json", "--photos=../photos"], "../none.json: no such file"),
        (
            ["--dataset=../good.json", "--photos=../photos"],
            "no photo with captions is in split 'val', which is needed up to stage promote",
        ),
        (["--photos=../photos"], "--photos has no effect without --dataset; give both or neither"),
        (["--dataset=../good.json", "--columns=image:url"], "--columns is 'image:url'; write <role>=<column>"),
        (["--dataset=../good.json", "--photos=../photos", "--columns=image=url"], "--columns has no effect on"),
        (
            ["--dataset=../small.json", "--photos=../photos"],
            "train.batch_size is 64, but split 'train' of data set d has only 1 photos, and a batch has one caption",
        ),
        (
            ["--dataset=../small.json", "--photos=../photos", "--train.data_mode=stream"],
            "split 'train' of data set d has 2 captions, too few to stream with train.batch_size=64",
        ),
        (["--scenes.train=8"], "train.batch_size is 64, but scenes.train=8 has only 8 photos"),
        (
            ["--model.region_dim=512"],
            "extract.detector embedded gives features of width 2048, but model.region_dim is 512",
        ),
        (["--train.word_vectors=../none.txt"], "none.txt' cannot be read (No such file or directory)"),
        (
            ["--model.text_encoder=hf", "--model.hf_model=no/such/folder"],
            "model.hf_model 'no/such/folder' cannot be loaded (",
        ),
        (["--preset=fast"], "unknown preset 'fast'; choose one of coco, flickr30k, quickstart"),
        (["--train.epoks=3"], "--train.epoks"),
        (["--train.epochs=many"], "Expected a whole number. Got value: many"),
        (["--train.precision=fp16"], "Expected one of 'fp32', 'bf16'. Got value: fp16"),
        (["--extract.detector=yolo"], "unknown detector 'yolo'; choose one of bottom_up, embedded, huggingface"),
        (
            ["--extract.detector=huggingface", '--extract.detector_settings={"model": "org/name"}'],
            "model is 'org/name', which is neither a folder here nor a hub name with a revision; give a folder",
        ),
        (["--tracking.uri=http://127.0.0.1:9"], "tracking.uri http://127.0.0.1:9 is unreachable"),
        (["--tracking.uri=mlruns"], "tracking.uri mlruns is not a tracking store"),
        (["--extract.output=ftp://x/y"], "ftp:// is not supported"),
        (["--extract.output=../good.json"], "good.json' cannot be written"),
        (["--train.output=../good.json"], "good.json' cannot be written"),
        (["--cluster.address=127.0.0.1:9"], "cluster.address 127.0.0.1:9 is unreachable"),
    ],
)
def test_the_quickstart_refuses_bad_input(data: Path, run: Run, argv: list[str], said: str):
    assert said in run("jobs.quickstart", *argv)
    assert list((data / "cwd").iterdir()) == []


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"dataset": "e"}, "the registered model 'shan-d' belongs to another data set, e"),
        (
            {"dataset": "d", "fingerprint": "other"},
            "models:/shan-d/1 has no run that names its feature set; give the champion's with --champion-features",
        ),
    ],
)
def test_the_quickstart_refuses_a_model_that_is_not_comparable(
    data: Path, run: Run, tracking: Tracking, tags: dict[str, str], said: str
):
    client = tracking.client()
    client.create_registered_model("shan-d")
    client.create_model_version("shan-d", "file:///x", tags=tags)
    client.set_registered_model_alias("shan-d", CHAMPION, "1")
    options = [f"--tracking.uri={tracking.uri}", "--train.batch_size=4", "--train.num_workers=1"]
    assert said in run("jobs.quickstart", "--dataset=../fits.json", "--photos=../photos", *options)
    assert list((data / "cwd").iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["jobs.train", "--features=nowhere", "--name=m"], "nowhere: no finished feature set here"),
        (["jobs.evaluate", "--model=models:/m@champion", "--features=nowhere"], "no finished feature set here"),
        (["jobs.search", "--model=models:/m@champion", "--features=nowhere", "q"], "no finished feature set"),
        (["jobs.promote", "--name=m", "--version=1", "--features=nowhere"], "no finished feature set here"),
        (["jobs.promote", "--name=m", "--version=1"], "give exactly one of: --version with --features"),
        (
            ["jobs.promote", "--name=m", "--unlock", "--dry-run"],
            "--dry-run has no effect with --unlock; omit one of them",
        ),
        (["jobs.behaviour", "--model=m", "--features=nowhere", "--report=r.pdf"], "end the name in .md"),
        *(
            ([f"jobs.{command}", "--features=nowhere", "--device=cuda", *arguments], "torch finds no GPU")
            for command, arguments in MODEL_COMMANDS.items()
        ),
        (
            ["jobs.evaluate", "--model=m", "--features=nowhere", "--score.num_actors=2", "--device=cpu"],
            "--device is cpu, but has no effect with score.num_actors",
        ),
        (["jobs.evaluate", "--model=m", "--features=nowhere", "--score.actor_gpus=1"], "set score.num_actors"),
        (["jobs.promote", "--name=m", "--unlock", "--device=cpu"], "--device has no effect with"),
        (["jobs.extract", "--dataset=../good.json", "--photos=../x"], "../x: no such photo folder"),
        (
            ["jobs.extract", "--plan", "--dataset=../good.json", "--photos=."],
            "1 of 1 photos of data set d do not exist",
        ),
        (["jobs.extract"], "dataset"),
        (["jobs.index", "--model=m", "--features=nowhere"], "nowhere: no finished feature set here"),
        (["jobs.lineage", "nowhere"], "nowhere: no finished feature set here"),
        (["jobs.search", "--model=m", "--features=nowhere", "--top=0", "q"], "--top is 0"),
        (["jobs.search", "--model=m", "--features=nowhere", "--page=../good.json/x.html", "q"], "--page"),
    ],
)
def test_every_job_does(data: Path, run: Run, argv: list[str], said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert said in run(*argv)
    assert list((data / "cwd").iterdir()) == []


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        *((name, ["--features=../set", *arguments]) for name, arguments in MODEL_COMMANDS.items()),
        ("promote", ["--name=m", "--rollback=worse", "--dry-run"]),
        ("lineage", ["models:/m/1"]),
        ("lineage", ["runs:/m"]),
    ],
)
def test_a_command_that_reads_models_does_not_create_a_store(data: Path, run: Run, command: str, arguments: list[str]):
    feature_sets.write_set(data, feature_sets.manifest(data))
    arguments = [argument.replace("--model=m", "--model=models:/m/1") for argument in arguments]
    assert "mlflow.db does not exist; set it, or the environment variable" in run(f"jobs.{command}", *arguments)
    assert list((data / "cwd").iterdir()) == []


def test_user_error_of_a_process_is_one_line_and_exit_code_2():
    command = [sys.executable, "-m", "jobs.train", "--features=nowhere", "--name=m"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: nowhere: no finished feature set here")
