"""Bad input, as a user meets it: one line on stderr that names the thing and the fix, exit code 2, nothing written."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.jobs.conftest import Call, UserErrorOf
from tests.support import ROOT, feature_sets

MODEL_COMMANDS = {
    "behaviour": ["--model=m"],
    "evaluate": ["--model=m"],
    "promote": ["--name=m", "--version=1"],
    "search": ["--model=m", "q"],
    "rerank": ["--model=m"],
}
"""Commands that run a model, and their required arguments."""


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["jobs.evaluate", "--model=models:/m@champion", "--features=nowhere"], "no finished feature set here"),
        (["jobs.search", "--model=models:/m@champion", "--features=nowhere", "q"], "no finished feature set"),
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
        (["jobs.search", "--model=m", "--features=nowhere", "--top=0", "q"], "--top is 0"),
        (["jobs.search", "--model=m", "--features=nowhere", "--page=../good.json/x.html", "q"], "--page"),
    ],
)
def test_every_job_does(
    data: Path, user_error: UserErrorOf, argv: list[str], said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert said in user_error(*argv)
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
def test_a_command_that_reads_models_does_not_create_a_store(
    data: Path, user_error: UserErrorOf, command: str, arguments: list[str]
):
    feature_sets.write_set(data, feature_sets.manifest(data))
    arguments = [argument.replace("--model=m", "--model=models:/m/1") for argument in arguments]
    assert "mlflow.db does not exist; set it, or the environment variable" in user_error(f"jobs.{command}", *arguments)
    assert list((data / "cwd").iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "options", "reason"),
    [
        (["extract", "--dataset=none.json"], ["--estimate.num_nodes=2"], "without --plan"),
        (["quickstart", "--dataset=none.json"], ["--scenes.train=99"], "with --dataset"),
        (
            ["promote", "--name=m", "--rollback=bad"],
            ["--promote.split=val", "--score.precision=bf16", "--cluster.local_cpus=2"],
            "with --rollback and --unlock",
        ),
        (["pipeline", "--name=m", "--dataset=good.json"], ["--estimate.num_nodes=2"], "without --dry-run"),
        (
            ["pipeline", "--name=m", "--dataset=good.json", "--photos=photos", "--until=train"],
            ["--score.num_actors=1", "--promote.split=val", "--index.num_actors=99"],  # more than cluster.local_cpus
            "with --until train",
        ),
        (
            ["pipeline", "--name=m", "--dataset=good.json", "--photos=photos", "--until=extract", "--intersect"],
            ["--train.num_workers=9"],
            "with --until extract",
        ),
    ],
)
def test_options_of_sections_without_effect_are_warned_of(
    data: Path, call: Call, argv: list[str], options: list[str], reason: str
):
    code, _, err = call(f"jobs.{argv[0]}", *argv[1:], *options)
    *warnings, error = err.splitlines()
    assert code == 2, err
    assert error.startswith("error: ")
    assert warnings == [f"warning: {option.partition('=')[0]} has no effect {reason}" for option in options]


def test_user_error_of_a_process_is_one_line_and_exit_code_2():
    command = [sys.executable, "-m", "jobs.train", "--features=nowhere", "--name=m"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: nowhere: no finished feature set here")
