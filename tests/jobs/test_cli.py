"""The command line that all commands share: presets, config files, options, and errors of one line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.errors import StorageError, UserError
from infra.log import configure
from jobs import cli
from jobs.config import Config
from tests.support import ROOT
from tests.support.bad_stores import closed

ALL = tuple(Config.__dataclass_fields__)


def add_arguments(parser: Any) -> None:
    parser.add_argument("--name", type=str, default="")


def parse(*argv: str, sections: tuple[str, ...] = ALL, preset: str | None = None) -> Config:
    return cli.parse("quickstart", "d", add_arguments, sections, list(argv), preset)[1]


def test_presets_set_fields_and_options_override_them():
    config = parse("--preset", "quickstart", "--train.epochs=9")
    assert config.train.epochs == 9
    assert config.model.joint_dim == 64
    assert config.train.learning_rate == pytest.approx(2e-3)
    assert parse(preset="quickstart").model.joint_dim == 64
    assert parse("--preset=flickr30k", preset="quickstart").model.joint_dim == 1024


def test_commands_without_a_model_start_without_its_packages():
    """Their imports take seconds of each process, and of each help text."""
    commands = "import sys, jobs.extract, jobs.features, jobs.status, jobs.submit"
    program = f"{commands}; print(*{{'torch', 'pandas', 'mlflow', 'ray'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_options_override_files_which_override_the_preset(tmp_path: Path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("train: {epochs: 5, seed: 5}\n")
    second.write_text("train: {epochs: 6}\n")
    files = [f"--config={first}", "--config", str(second)]
    config = parse("--train.batch_size=32", "--train.seed=7", *files, "--preset=quickstart")
    assert (config.train.batch_size, config.train.seed, config.train.epochs, config.model.joint_dim) == (32, 7, 6, 64)


def test_usage_and_help_show_the_presets(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse("--help")
    usage, _, rest = " ".join(capsys.readouterr().out.split()).partition(" options: ")
    presets = "--preset {best,coco,flickr30k,paper,quickstart}"
    for option in ("[--name NAME]", f"[{presets}]", "[--config FILE]", "[--print_config]"):
        assert option in usage
    assert "[--SECTION.FIELD VALUE ...]" in usage
    assert f"{presets} Start from the settings of this preset" in rest


def test_preset_without_effect_is_an_error():
    with pytest.raises(UserError, match="unrecognized arguments: --preset coco"):
        parse("--preset", "coco", sections=("tracking", "cluster"))


def test_a_printed_config_can_be_used_as_a_config_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        parse("--name=x", "--preset=quickstart", "--train.seed=7", "--print_config")
    assert caught.value.code == 0
    file = tmp_path / "printed.yaml"
    file.write_text(capsys.readouterr().out)
    assert set(yaml.safe_load(file.read_text())) == set(ALL)
    assert parse("--config", str(file)) == parse("--preset=quickstart", "--train.seed=7")


@pytest.mark.parametrize(
    ("field", "given", "wanted"),
    [
        ("extract.output", "~/x", "{home}/x"),
        ("extract.output", "a b%20?#", "{cwd}/a b%20?#"),
        ("extract.output", "s3://bucket/a b%20?#", "s3://bucket/a b%20?#"),
        ("index.output", "~/x", "{home}/x"),
        ("index.output", "x", "{cwd}/x"),
        ("train.output", "~/x", "{home}/x"),
        ("train.output", "file:///a%20b", "/a b"),
        ("train.word_vectors", "~/x.txt", "{home}/x.txt"),
        ("train.word_vectors", "x.txt", "{cwd}/x.txt"),
        ("score.cache_file", "~/x.npy", "{home}/x.npy"),
        ("score.cache_file", "x.npy", "{cwd}/x.npy"),
        ("tracking.uri", "sqlite:///x.db", "sqlite:///{cwd}/x.db"),
        ("tracking.uri", "sqlite:///~/x.db", "sqlite:///{home}/x.db"),
        ("tracking.uri", "http://host:5000", "http://host:5000"),
        ("cache.folder", "x", "{cwd}/x"),
        ("cache.folder", "~/x", "~/x"),  # the home folder of each node
    ],
)
def test_paths_of_every_field_follow_one_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, given: str, wanted: str
):
    """The same in an option and in a config file."""
    home, cwd = tmp_path / "home", tmp_path / "cwd"
    for folder in (home, cwd):
        folder.mkdir()
    monkeypatch.chdir(cwd)
    monkeypatch.setenv("HOME", str(home))
    section, name = field.split(".")
    (home / "mine.yaml").write_text(yaml.safe_dump({section: {name: given}}))
    for argv in (f"--{field}={given}", "--config=~/mine.yaml", "--config=../home/mine.yaml"):
        config = parse(argv, sections=(section,))
        assert getattr(getattr(config, section), name) == wanted.format(home=home, cwd=cwd)


def test_path_options_follow_the_same_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def report(*argv: str) -> Path | None:
        def add(parser: Any) -> None:
            parser.add_argument("--report", type=Path, default=None)

        return cli.parse("evaluate", "d", add, (), list(argv))[0].report

    assert report() is None
    assert report("--report=~/a b%20?#.md") == report("--report", "a b%20?#.md") == tmp_path / "a b%20?#.md"
    assert report("--report=~") == tmp_path  # which is null in YAML
    with pytest.raises(UserError, match=r"--report 's3:/bucket/r\.md' is a URI; give a path on this machine"):
        report("--report=s3://bucket/r.md")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--model.g2g_scale=-1", "model.g2g_scale is -1"),
        ("--train.word_dropout=1", "train.word_dropout is 1"),
        ("--model.matcher=tern --model.joint_dim=1022", "model.joint_dim is 1022; it must be a multiple of 4"),
    ],
)
def test_a_value_out_of_range_is_refused_and_not_printed(option: str, message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(UserError, match=message):
        parse(*option.split(), "--print_config")
    assert capsys.readouterr().out == ""


def test_a_printed_config_names_no_folder_of_this_machine(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse("--print_config")
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["extract"]["output"] == "build/features"
    assert printed["train"]["output"] == "build/runs"
    assert printed["index"]["output"] == "build/indexes"


def test_help_and_printed_config_have_no_password(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@h:5000")
    for argument in ("--print_config", "--help"):
        with pytest.raises(SystemExit):
            parse(argument)
        printed = capsys.readouterr().out
        assert "http://h:5000" in printed
        assert "hunter2" not in printed


def test_the_traceback_of_a_defect_has_no_password():
    code = "from jobs import cli\ndef main(): raise RuntimeError('GET http://me:hunter2@h/x failed')\ncli.run(main)"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("hunter2", "hun' + 'ter2")], cwd=ROOT, capture_output=True
    )
    assert done.returncode == 1
    assert b"Traceback (most recent call last):" in done.stderr
    assert done.stderr.endswith(b"RuntimeError: GET http://h/x failed\n")


@pytest.mark.parametrize(("said", "printed"), [("", "interrupted\n"), ("re-run it", "interrupted; re-run it\n")])
def test_an_interrupt_is_one_line(said: str, printed: str, capsys: pytest.CaptureFixture[str]):
    def interrupted() -> None:
        raise KeyboardInterrupt(said)

    with pytest.raises(SystemExit) as caught:
        cli.run(interrupted)
    assert caught.value.code == 130
    assert capsys.readouterr().err == printed


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--train.epoks", "3"], "--train.epoks"),
        (
            ["--preset", "flickr31k"],
            "unknown preset 'flickr31k'; choose one of best, coco, flickr30k, paper, quickstart",
        ),
        (["--preset"], "unknown preset ''"),
        (["--config", "nowhere.yaml"], "/nowhere.yaml': no such file; give a YAML file"),
        (["--config", "/dev/null"], "--config '/dev/null': not a regular file; give a YAML file"),
        (["--train.epochs", "many"], "train.epochs is 'many'; give a whole number; see `"),
        (["--train.epochs"], "--train.epochs has no value; give one; see `"),
        (["--train.use_gpu", "x"], "train.use_gpu is 'x'; give true or false; see `"),
        (["--extract.detector_settings", "x"], "extract.detector_settings is 'x'; give a JSON object; see `"),
        (["--model.variant", "i2i"], "model.variant is 'i2i'; give one of 'full', 't2i', 'i2t'; see `"),
        (["--train.epochs", "0"], "train.epochs is 0; it must be at least 1"),
        (["--train.batch_size", "3"], "train.batch_size is 3 for 2 workers"),
        (["--train.min_workers=1", "--train.data_mode=stream"], "train.min_workers is set with train.data_mode=stream"),
        (["--scenes.train", "1"], "scenes.train is 1"),
        (["--extract.min_detector_actors", "0"], "extract.min_detector_actors is 0"),
        (["--cluster.local_cpus", "0"], "cluster.local_cpus is 0; it must be at least 1"),
        (
            ["--cluster.local_cpus", "2"],
            "extract.min_detector_actors needs 3.25 logical CPUs, but cluster.local_cpus is 2",
        ),
        (["--train.seed=-1"], "train.seed is -1"),
        (["--train.learning_rate=.inf"], "train.learning_rate is inf"),
        (
            ["--train.num_workers=6", "--train.batch_size=60"],
            "train.num_workers needs 6 logical CPUs, but cluster.local_cpus is 4; set cluster.local_cpus to 6",
        ),
        (
            ["--extract.max_detector_actors=4"],
            "extract.max_detector_actors needs 5 logical CPUs, but cluster.local_cpus is 4",
        ),
        (["surplus"], "surplus"),
        (["--model", "x"], "unrecognized arguments: --model x"),
        (
            ["--train.epoch", "3"],  # options cannot be abbreviated
            "unrecognized arguments: --train.epoch 3; the nearest option is --train.epochs; see `",
        ),
        (["--name.words", "3"], "--name.words is unknown, because this command has no section 'name'; omit it; see `"),
        (["--name.words=3"], "--name.words is unknown, because this command has no section 'name'; omit it; see `"),
        (["--wrds=3"], "unrecognized arguments: --wrds=3; see `"),
    ],
)
def test_an_invalid_command_line_is_one_line(argv: list[str], message: str):
    with pytest.raises(UserError) as caught:
        parse(*argv)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_help_explains_every_field(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for section, field in Config.__dataclass_fields__.items():
        for name in field.type.__dataclass_fields__:  # type: ignore[union-attr]
            assert f"--{section}.{name} " in text, f"{section}.{name} is not offered"
    assert "lambda of Eq. 4 and 5" in text


@pytest.mark.parametrize("error", [UserError("x is 1; set it to 2"), StorageError("s3://b/p: unreachable; re-run")])
def test_user_and_store_errors_are_one_line_with_exit_code_2(error: Exception, capsys: pytest.CaptureFixture[str]):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        cli.run(main)
    assert (caught.value.code, capsys.readouterr().err) == (2, f"error: {error}\n")


def test_a_path_without_permission_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "closed" / "x"
    path.parent.mkdir()
    with pytest.raises(SystemExit) as caught, closed(path.parent):
        cli.run(lambda: path.write_text("x"))
    line = f"error: {path}: Permission denied; change its permissions or give another path\n"
    assert (caught.value.code, capsys.readouterr().err) == (2, line)


@pytest.mark.parametrize(
    ("argv", "last"),
    [
        (["--log-format=json"], {"level": "info", "event": "job_finished", "exit_code": 0}),
        (["--log-format", "json", "--name=user"], {"level": "error", "event": "job_failed", "exit_code": 2}),
        (["--log-format=json", "--name=defect"], {"level": "error", "event": "job_failed", "exit_code": 1}),
        (["--log-format=json", "--name=stop"], {"level": "info", "event": "job_interrupted", "exit_code": 130}),
        (["--log-format=json", "--nam"], {"level": "error", "event": "job_failed", "exit_code": 2}),
    ],
)
def test_the_end_of_a_command_is_an_event(argv: list[str], last: dict[str, object], capsys: pytest.CaptureFixture[str]):
    errors = {"user": UserError("x is 1; set it"), "defect": ZeroDivisionError("x"), "stop": KeyboardInterrupt()}

    def main() -> None:
        arguments, _ = cli.parse("quickstart", "d", add_arguments, (), argv)
        if arguments.name:
            raise errors[arguments.name]

    with pytest.raises(SystemExit) as caught:
        cli.run(main)
    configure("text")
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert last.items() <= events[-1].items()
    assert (caught.value.code, events[-1]["job"]) == (last["exit_code"], "quickstart")
    if "--nam" not in argv:
        assert events[0]["event"] == "job_started"
        assert events[0]["message"].endswith(" ".join(["quickstart", *argv]))
    if "--name=defect" in argv:
        assert "ZeroDivisionError" in events[-1]["traceback"]


@pytest.mark.parametrize("error", [ValueError("a defect"), OSError("a defect"), PermissionError("a defect")])
def test_a_defect_keeps_its_traceback(error: Exception):
    def main() -> None:
        raise error

    with pytest.raises(type(error), match="a defect"):
        cli.run(main)
