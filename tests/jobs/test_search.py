"""The command `jobs.search` on an index and on a feature set: results, JSON, explanations, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import LoadedModel, load_model
from pipelines.search import query
from pipelines.search.index_build import IndexBuild
from pipelines.search.index_commands import load_version
from tests.support.commands import call_command
from tests.support.feature_sets import manifest, write_set
from tests.support.indexes import build_here, loaded, network
from tests.support.registered import write_plugin
from tests.support.small_models import register_model, small_set

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_set(tmp_path_factory.mktemp("features"), 30)


@pytest.fixture(scope="module")
def model(features: FeatureSet, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return loaded(tmp_path_factory.mktemp("model"), features)


@pytest.fixture(scope="module")
def index(features: FeatureSet, model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> IndexBuild:
    return build_here(model, [features], tmp_path_factory.mktemp("indexes"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: call_command(monkeypatch, capsys, "jobs.search", "--device=cpu", *map(str, arguments))


def test_an_index_answers_with_the_model_that_it_records(run: Run, index: IndexBuild):
    code, out, _ = run("--index", index.store.uri, "--top=3", "a photo of 10", "number 4 <again>")
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith('"')] == ['"a photo of 10"', '"number 4 <again>"']
    assert len(out.splitlines()) == 8


def test_an_index_and_its_feature_set_agree(run: Run, index: IndexBuild, features: FeatureSet, model: LoadedModel):
    of_index = run("--index", index.uri, "--split=val", "--top=5", "--candidates=1000", "--json", "a photo of 10")[1]
    of_set = run("--features", features.uri, "--model", model.uri, "--split=val", "--top=5", "--json", "a photo of 10")[
        1
    ]
    (a,), (b,) = json.loads(of_index), json.loads(of_set)
    assert [hit["key"] for hit in a["hits"]] == [hit["key"] for hit in b["hits"]]
    for found, exact in zip(a["hits"], b["hits"], strict=True):
        assert found["score"] == pytest.approx(exact["score"], abs=1e-3)
        assert {**found, "row": 0, "score": 0} == {**exact, "row": 0, "score": 0}


def test_explanations_and_the_page(run: Run, index: IndexBuild, tmp_path: Path):
    code, out, _ = run("--index", index.uri, "--explain", "--top=1", "--page=page.html", "a photo")
    assert code == 0
    assert "S_L2L" in out
    assert "photo: region" in out
    assert "a photo" in (tmp_path / "page.html").read_text()


def test_a_photo_finds_captions_by_the_carried_detector(run: Run, tracking: Tracking, tmp_path: Path):
    """Regions of the query photo come from the model's own detector, a plugin of three stripes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        detector = write_plugin(tmp_path)
        from pipelines.detectors import registry

        fingerprint = registry.fingerprint(detector.name, registry.resolve(detector.name, detector.settings))
        features = write_set(tmp_path, manifest(tmp_path, 12), detector=detector, fingerprint=fingerprint)
        register_model(tracking, "m", network(features), features, tmp_path / "bundle")
        found = load_version("models:/m/1", query.TrackingConfig(uri=tracking.uri))
        index = build_here(found, [features], tmp_path / "out")
        assert index.document.model.uri == "models:/m/1"
        Image.new("RGB", (30, 20), (200, 10, 10)).save(tmp_path / "query.png")
        given = f"--tracking.uri={tracking.uri}", "--image=query.png", "--top=2", "--json"
        code, out, _ = run("--index", index.uri, *given)
        assert code == 0
        ((of_index),) = json.loads(out)
        assert of_index["query"] == "query.png"
        assert [len(hit["captions"]) for hit in of_index["hits"]] == [1, 1]
        _, out, _ = run("--features", features.uri, "--model=models:/m/1", "--split=train", *given)
        assert [len(hit["captions"]) for hit in json.loads(out)[0]["hits"]] == [1, 1]
        (tmp_path / "text.png").write_text("no image")
        for name in ("text.png", "a/path/that/could/be/base64/text"):
            code, _, err = run("--index", index.uri, f"--tracking.uri={tracking.uri}", f"--image={name}")
            assert code == 2
            assert err.startswith(f"error: --image: {name}: ")
            assert len(err.splitlines()) == 1


def test_a_checkpoint_has_no_detector(run: Run, index: IndexBuild, tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "query.png")
    code, _, err = run("--index", index.uri, "--image=query.png")
    assert code == 2
    assert "is a checkpoint folder, which has no detector; give a models:/ or runs:/ URI" in err


def test_another_model_than_that_of_the_index_is_refused(
    run: Run, index: IndexBuild, features: FeatureSet, model: LoadedModel, tmp_path: Path
):
    other = loaded(tmp_path / "other", features, seed=1)
    code, _, err = run("--index", index.uri, "--model", other.uri, "a dog")
    assert code == 2
    assert f"; pass --model {model.uri}, omit --model, or build an index with `python -m jobs.index --model" in err
    assert load_model(None, other.uri).digest == other.digest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a dog"], "give exactly one of --index and --features"),
        (["--index=x", "--features=y", "a dog"], "give exactly one of --index and --features"),
        (["--index=x"], "give either text queries or --image"),
        (["--index=x", "--image=p.jpg", "--", "a dog"], "give either text queries or --image"),
        (["--features=x", "a dog"], "--features needs --model"),
        (["--features=x", "--model=m", "--candidates=5", "a dog"], "--candidates has no effect with --features"),
        (["--index=x", "--candidates=0", "a dog"], "--candidates is 0; it must be at least 1"),
        (["--index=x", "--top=0", "a dog"], "--top is 0; it must be at least 1"),
        (["--index=x", "--image=p.jpg", "--explain"], "--explain has no effect with --image; omit it"),
        (["--index=x", "--image=p.jpg", "--page=p.html"], "--page has no effect with --image; omit it"),
        (["--index=nowhere", "a dog"], "nowhere: no finished search index here; run `python -m jobs.index` to its end"),
    ],
)
def test_options_that_do_not_fit_are_refused(run: Run, arguments: list[str], message: str):
    code, _, err = run(*arguments)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([""], "query 1 is empty"), (["--split=gallery", "a"], "has no items of split 'gallery'; choose one of: test,")],
)
def test_queries_that_find_nothing_are_refused(run: Run, index: IndexBuild, arguments: list[str], message: str):
    code, _, err = run("--index", index.uri, *arguments)
    assert code == 2
    assert message in err
