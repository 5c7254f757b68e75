"""The command `jobs.features`: exit codes and output of every subcommand."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import cli, features
from pipelines.features.feature_set import FeatureSet
from tests.support.feature_sets import manifest, tar_of, write_photos, write_set
from tests.support.precomputed import Photo, karpathy_file, scan_folder

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
        (["verfy", "x"], "unknown command 'verfy' of python -m jobs.features; choose one of verify, inspect"),
        (["verify"], "features"),
        (["verify", "x", "y"], "see `python -m jobs.features verify --help`"),
        (["verify", "nowhere"], "no index.json here"),
        (["inspect", "nowhere"], "no finished feature set here"),
        (["gc", "nowhere"], "no index.json here, so orphaned objects cannot be determined"),
        (["gc", "nowhere", "--remove"], "--remove"),
        (["gc", "nowhere@0123456789ab"], "is one snapshot, but gc considers all of them; omit '@0123456789ab'"),
        (["verify", "ftp://host/x"], "ftp:// is not supported"),
    ],
)
def test_user_errors_are_one_line_with_exit_code_2(run: Run, argv: list[str], message: str):
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    (line,) = [line for line in re.split(r"[\r\n]", err) if line.startswith("error: ")]
    assert message in line


def test_verify_an_intact_feature_set(run: Run, made: FeatureSet):
    code, out, _ = run("verify", made.uri)
    assert code == 0
    assert f"{made.pinned_uri}: intact" in out
    assert re.search(r"4 shards, 5 photos written \+ 1 rejected, 41 kB in \d+\.\d s \(\d+ MB/s\)", out)


def test_verify_of_a_corrupt_set_has_exit_code_1(run: Run, made: FeatureSet):
    tar_of(made, "p0").unlink()
    code, out, _ = run("verify", made.uri)
    assert code == 1
    assert f"integrity error: {tar_of(made, 'p0').name}: does not exist" in out


def test_inspect_prints_the_content_and_writes_the_page(run: Run, made: FeatureSet, tmp_path: Path):
    code, out, _ = run("inspect", made.uri)
    assert code == 0
    assert out.splitlines()[0] == made.pinned_uri
    assert f"page: {tmp_path}/build/features.html" in out
    assert (tmp_path / "build" / "features.html").read_text().startswith("<!doctype html>")


def test_inspect_a_snapshot_and_a_corrupt_feature_set(run: Run, made: FeatureSet, tmp_path: Path):
    past = made.pinned_uri
    new = write_set(tmp_path, manifest(tmp_path, said="edited"))
    code, out, _ = run("inspect", past)
    assert (code, out.split("\n")[0]) == (0, past)
    assert out.count("snapshot     @") == 2
    tar_of(new, "p0").write_bytes(b"x")
    code, _, err = run("inspect", new.uri)
    assert code == 2
    assert "p0 cannot be read; run `python -m jobs.features verify` to list every corrupt object" in err


def test_an_unwritable_page_fails_first(run: Run, made: FeatureSet, tmp_path: Path):
    (tmp_path / "file").write_text("")
    code, out, err = run("inspect", made.uri, "--page", tmp_path / "file" / "page.html")
    assert (code, out) == (2, "")
    assert "--page" in err


def test_gc_lists_and_deletes_only_with_delete(run: Run, made: FeatureSet, tmp_path: Path):
    write_set(tmp_path, manifest(tmp_path, said="edited"))
    before = sorted(path.name for path in Path(made.uri).iterdir())
    assert "no orphaned objects" in run("gc", made.uri)[1]
    code, out, _ = run("gc", made.uri, "--earlier-snapshots")
    assert code == 0
    assert "1 x snapshot, 4 x receipt, 4 x tar, 1 x manifest" in out
    assert "warning: 4 complete shards are among them" in out
    assert "warning: 1 earlier snapshots are among them" in out
    assert "nothing was deleted; add --delete to delete them" in out
    assert sorted(path.name for path in Path(made.uri).iterdir()) == before
    code, out, _ = run("gc", made.uri, "--earlier-snapshots", "--delete")
    assert (code, out.strip().split("\n")[-1]) == (0, "10 objects deleted")
    assert run("verify", made.uri)[0] == 0
    assert len(list(Path(made.uri).iterdir())) == len(before) - 10


def test_export_of_an_imported_scan_folder_gives_the_same_bytes(run: Run, tmp_path: Path):
    source = scan_folder(tmp_path / "in", {"train": 5, "test": 2})
    code, out, _ = run(
        "import", "--feature-format", "scan", source, "--feature-root", tmp_path / "out", "--photos-per-shard", "2"
    )
    printed = out.splitlines()
    assert code == 0
    assert printed[1] == "  7 photos planned = 7 written + 0 rejected, in 4 shards (4 written now, 0 reused)"
    assert (
        run("export", printed[0], tmp_path / "back")[1] == f"{tmp_path}/back: 5 train, 2 test photos in SCAN's format\n"
    )
    assert (tmp_path / "back" / "train_ims.npy").read_bytes() == (source / "train_ims.npy").read_bytes()


def test_import_of_a_tsv_prints_rejections_and_notes(run: Run, tmp_path: Path):
    dataset = karpathy_file(tmp_path / "d.json", {"1.jpg": "train", "2.jpg": "train"})
    (tmp_path / "a.tsv").write_text(Photo("1").six() + Photo("9").six())
    out = run(
        "import", "--feature-format=tsv", tmp_path / "a.tsv", f"--feature-root={tmp_path}/out", "--dataset", dataset
    )[1]
    assert out.splitlines()[1:] == [
        "  2 photos planned = 1 written + 1 rejected, in 1 shards (1 written now, 0 reused)",
        "  rejected 1 x 'the TSV has no row for this photo'",
        f"  first 2.jpg; all of them in {next((tmp_path / 'out').iterdir())}/quarantine.parquet",
        "  1 of 2 rows left out: their photos are not in the data set",
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("a",), "--feature-format must be given"),
        (("--feature-format", "npz", "a"), "npz"),
        (("--feature-format", "scan"), "PATH must be given"),
        (("--feature-format", "tsv", "a", "--columns", "key=id"), "--columns has no effect without --dataset"),
        (
            ("--feature-format", "scan", "a", "--dataset", "d.json"),
            "--dataset has no effect with --feature-format scan",
        ),
        (("--feature-format", "scan", "/nowhere"), "/nowhere: no train_ims"),
    ],
)
def test_import_errors_are_one_line_with_exit_code_2(run: Run, argv: tuple[str, ...], message: str):
    code, out, err = run("import", *argv)
    assert (code, out) == (2, "")
    assert re.search(message, err)
