"""The command `jobs.index`: exit codes and output of the build and of every subcommand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.datasets.manifest import Manifest
from pipelines.features.feature_set import FeatureSet
from pipelines.search.index_build import IndexBuild
from tests.support.commands import call_command
from tests.support.feature_sets import manifest, write_set
from tests.support.indexes import SMALL, build_here, loaded
from tests.support.small_models import small_set

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_set(tmp_path_factory.mktemp("features"), 30)


@pytest.fixture
def index(features: FeatureSet, tmp_path: Path) -> IndexBuild:
    return build_here(loaded(tmp_path / "model", features), [features], tmp_path / "out")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: call_command(monkeypatch, capsys, "jobs.index", *map(str, arguments))


def test_a_finished_index_is_not_built_again(run: Run, index: IndexBuild, features: FeatureSet, tmp_path: Path):
    options = ["--index.output=out", "--index.photos_per_partition=8"]
    code, out, _ = run("--model", "model", "--features", features.uri, *options)  # a path in the current folder
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == index.uri
    assert lines[1] == f"  model {tmp_path / 'model'}, 1 feature sets"
    assert lines[2].startswith("  29 photos in 5 partitions, ")
    assert lines[2].endswith("; candidate search flat")
    assert lines[-1] == "  0 partitions written now, 10 reused"


def test_verify_and_gc(run: Run, index: IndexBuild):
    code, out, _ = run("verify", index.store.uri)
    assert code == 0
    assert f"{index.uri}: intact" in out
    left = Path(index.store.uri, "photos-val-000009-01234567.vectors.npy")
    left.write_bytes(b"left behind")
    code, out, _ = run("gc", index.store.uri)
    assert code == 0
    assert "nothing was deleted; add --delete to delete them" in out
    assert run("gc", index.store.uri, "--delete")[1].splitlines()[-1] == "1 objects deleted"
    assert not left.exists()
    next(Path(index.store.uri).glob("photos-*.boxes.npy")).unlink()
    code, out, _ = run("verify", index.store.uri)
    assert code == 1
    assert "boxes.npy: does not exist" in out
    assert f"{index.uri}: 1 integrity errors" in out


def test_features_of_another_detector_are_refused(run: Run, index: IndexBuild, tmp_path: Path):
    other = write_set(tmp_path / "b", manifest(tmp_path, 12), fingerprint="made-up-9999")
    code, _, err = run("--model", tmp_path / "model", "--features", other.uri)
    assert code == 2
    assert "was made for features of made-up-0123 but" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "nowhere"], "nowhere: no finished search index here"),
        (["gc", "nowhere"], "no index.json of a search index here"),
        (["gc", "nowhere@0123456789ab"], "is one snapshot, but gc considers all of them; omit '@0123456789ab'"),
        (["--features=x"], "model"),
        (["--model=m", "--features=nowhere"], "nowhere: no finished feature set here"),
        (["--model=m", "--features=x", "--index.photos_per_partition=0"], "must be at least 1"),
        (["--model=m", "--features=x", "--index.num_actors=9"], "index.num_actors needs 9 logical CPUs"),
    ],
)
def test_bad_input_is_one_line(run: Run, arguments: list[str], message: str):
    code, _, err = run(*arguments)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_captions_alone_need_captions(run: Run, tmp_path: Path):
    photos = manifest(tmp_path, 6)
    bare = Manifest.build("bare", photos.root, [replace(p, captions=()) for p in photos.photos()])
    features = write_set(tmp_path, bare)
    model = loaded(tmp_path / "model", small_set(tmp_path / "c", 12))
    assert set(build_here(model, [features], tmp_path / "out").document.galleries) == {"photos"}
    with pytest.raises(UserError, match="the feature sets have no captions, so there is nothing to index; give other"):
        build_here(model, [features], tmp_path / "out", replace(SMALL, galleries="captions"))
