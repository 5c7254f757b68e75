"""`python -m jobs.features`: exit codes, and what it prints of a feature set, of its faults and of its garbage."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset

from jobs import cli, features
from jobs.config import Config
from pipelines.features.feature_set import FeatureSet
from tests.support.feature_sets import manifest, tar_of, write_photos, write_set

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs the command in this process; exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run_(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["features", *map(str, argv)])
        with pytest.raises(SystemExit) as caught:
            cli.run(features.main)
        out, err = capsys.readouterr()
        return int(str(caught.value.code)), out, err

    return run_


@pytest.fixture
def made(tmp_path: Path) -> FeatureSet:
    photos = manifest(tmp_path)
    write_photos(photos)
    return write_set(tmp_path, photos)


def test_help_lists_the_commands_and_each_has_its_own(run: Run):
    code, out, _ = run("--help")
    assert code == 0
    assert re.findall(r"^  (\w+)", out, re.MULTILINE) == ["verify", "inspect", "gc", "import", "export"]
    assert run()[:2] == (0, out)
    for command in ("verify", "inspect", "gc", "import", "export"):
        code, out, _ = run(command, "--help")
        assert code == 0
        assert f"usage: python -m jobs.features {command}" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["verfy", "x"], "unknown command 'verfy' of jobs.features; choose one of verify, inspect"),
        (["verify"], "uri"),
        (["verify", "x", "y"], "see `python -m jobs.features verify --help`"),
        (["verify", "nowhere"], "no index.json here"),
        (["inspect", "nowhere"], "no finished feature set here"),
        (["gc", "nowhere"], "no index.json here, so nothing tells garbage from work"),
        (["gc", "nowhere", "--remove"], "--remove"),
        (["verify", "ftp://host/x"], "ftp:// is not supported"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(run: Run, argv: list[str], message: str):
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    (line,) = [line for line in re.split(r"[\r\n]", err) if line.startswith("error: ")]
    assert message in line


def test_verify_of_a_whole_set(run: Run, made: FeatureSet):
    code, out, _ = run("verify", made.uri)
    assert code == 0
    assert f"{made.uri}@{made.index['feature_set'][:12]}: whole" in out
    assert re.search(r"4 shards, 5 photos written \+ 1 rejected, 41 kB in \d+\.\d s \(\d+ MB/s\)", out)


def test_verify_prints_at_most_twenty_faults_and_counts_the_rest(run: Run, tmp_path: Path):
    photos = manifest(tmp_path, 60)
    made = write_set(tmp_path, photos, {f"p{i}": {"meta": {"width": -1}} for i in range(60)})
    code, out, _ = run("verify", made.uri)
    assert code == 1
    assert out.count("fault: ") == 20
    assert "and 39 more faults" in out
    assert ": 59 faults" in out


def test_inspect_tells_what_there_is_and_writes_the_page(run: Run, made: FeatureSet, tmp_path: Path):
    code, out, _ = run("inspect", made.uri)
    assert code == 0
    for text in (
        f"data set tiny, photos from {tmp_path}/photos",
        "detector made-up (made-up-0123): 3 x 8 a photo",
        *made.lineage.values(),
        "3 photos, 6 captions, 2 shards, 20.5 kB; 1 rejected",
        "rejected     1 x 'not an image'",
        f"@{made.index['feature_set'][:12]}: 5 photos in 4 shards (newest)",
        "  confidences: [0.9, 0.5, 0.05]",
        "page: build/features.html",
    ):
        assert text in out
    assert (tmp_path / "build" / "features.html").read_text().startswith("<!doctype html>")


def test_the_line_that_opens_a_tar_works(run: Run, made: FeatureSet):
    _, out, _ = run("inspect", made.uri)
    line = out.split("open with")[1].split("\n")[0].strip()
    sample = eval(line, {"webdataset": webdataset, "next": next, "iter": iter})  # noqa: S307 - the line that we print
    assert (sample["__key__"], sample["regions.npy"].shape) == ("p0", (3, 8))
    assert sample["json"]["captions"] == ["a photo of 0", "number 0 <again>"]


def test_inspect_of_a_past_index_and_of_damage(run: Run, made: FeatureSet, tmp_path: Path):
    past = f"{made.uri}@{made.index['feature_set'][:12]}"
    new = write_set(tmp_path, manifest(tmp_path, said="edited"))
    code, out, _ = run("inspect", past)
    assert (code, out.split("\n")[0]) == (0, past)
    assert out.count("index        @") == 2
    tar_of(new, "p0").write_bytes(b"x")
    code, _, err = run("inspect", new.uri)
    assert code == 2
    assert "p0 cannot be read; `python -m jobs.features verify` tells all that is damaged" in err


def test_a_page_that_cannot_be_written_is_said_first(run: Run, made: FeatureSet, tmp_path: Path):
    (tmp_path / "file").write_text("")
    code, out, err = run("inspect", made.uri, "--page", tmp_path / "file" / "page.html")
    assert (code, out) == (2, "")
    assert "--page" in err


def test_gc_lists_first_and_deletes_when_told(run: Run, made: FeatureSet, tmp_path: Path):
    write_set(tmp_path, manifest(tmp_path, said="edited"))
    before = sorted(path.name for path in Path(made.uri).iterdir())
    assert "nothing to collect" in run("gc", made.uri)[1]
    code, out, _ = run("gc", made.uri, "--earlier-snapshots")
    assert code == 0
    assert "1 x snapshot, 4 x receipt, 4 x tar, 1 x manifest" in out
    assert "warning: 4 complete shards are among them" in out
    assert "warning: 1 earlier snapshots are among them" in out
    assert "nothing is deleted; --delete does it" in out
    assert sorted(path.name for path in Path(made.uri).iterdir()) == before
    code, out, _ = run("gc", made.uri, "--earlier-snapshots", "--delete")
    assert (code, out.strip().split("\n")[-1]) == (0, "10 deleted")
    assert run("verify", made.uri)[0] == 0
    assert len(list(Path(made.uri).iterdir())) == len(before) - 10


def test_import_and_export_reach_their_functions(run: Run, monkeypatch: pytest.MonkeyPatch):
    called: list[str] = []
    commands = dict(features.COMMANDS)
    for name, sections in (("import", ("extract",)), ("export", ())):
        assert commands[name].sections == sections
    monkeypatch.setattr(features.features_precomputed, "run_import", lambda a, c: called.append(type(c).__name__))
    monkeypatch.setattr(features.features_precomputed, "run_export", lambda a: called.append("export"))
    for name in ("import", "export"):
        commands[name].run(None, Config())
    assert called == ["Config", "export"]
