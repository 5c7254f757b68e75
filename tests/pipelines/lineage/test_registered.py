"""What runs and registered versions record and carry: it agrees with what they were made from, or is found broken."""

import os
import py_compile
import shutil
import sys
from collections.abc import Callable
from importlib.util import cache_from_source
from pathlib import Path

import mlflow
import pytest
import yaml

from infra.tracking import Tracking
from pipelines.lineage.registered import DIGESTS, find_run, missing_run_node, run_node, version_node
from pipelines.models.digests import detector_digest
from pipelines.models.load import load_model
from shan_model.bundle import save_bundle
from tests.pipelines.lineage.conftest import Chain, found, rewrite
from tests.support import feature_sets
from tests.support.small_models import model, register_model


def test_a_run_agrees_with_its_feature_set(intact: Chain):
    run = find_run(intact.tracking, intact.run_id)
    assert run is not None
    node = run_node(run, intact.features)
    assert (node.kind, node.name) == ("run", f"runs:/{intact.run_id}")
    assert [check.state for check in node.checks] == ["ok", "ok"]
    assert [check.finding for check in run_node(run, None).checks] == ["it exists (finished)"]


def test_a_version_agrees_with_its_run_files_and_detector(intact: Chain):
    version = intact.tracking.client().get_model_version("m", "1")
    run = find_run(intact.tracking, intact.run_id)
    assert [check.state for check in version_node(intact.tracking, version, run).checks] == ["ok"] * 7
    assert [check.state for check in version_node(intact.tracking, version, None).checks] == ["ok"] * 6


def test_a_version_is_stored_without_bytecode(tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """MLflow imports the code to validate it, and then stores the folder."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    features = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 12))
    register_model(tracking, "m", model(features), features, tmp_path / "bundle")
    assert list((tmp_path / "artifacts").rglob("pyfunc.py"))
    assert list(tmp_path.rglob("*.pyc")) == []
    assert sys.dont_write_bytecode is False


def test_a_version_that_was_loaded_in_place_stays_intact(chain: Chain, monkeypatch: pytest.MonkeyPatch):
    """Python writes bytecode beside the code of a version in a store that is a folder."""
    for name in [name for name in sys.modules if name.startswith("shan_line_")]:
        monkeypatch.delitem(sys.modules, name)  # imported from another folder
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    mlflow.set_tracking_uri(chain.tracking.mlflow_uri)
    mlflow.pyfunc.load_model("models:/m/1")
    written = chain.stored("MLmodel").parent.rglob("*.pyc")
    assert {"pyfunc", "matcher"} <= {path.name.split(".")[0] for path in written}
    lineage = chain.trace()
    assert lineage.count("ok") == sum(len(node.checks) for node in lineage.nodes), lineage.text()


def test_a_run_that_the_store_does_not_have_is_broken(tracking: Tracking):
    assert find_run(tracking, "0" * 32) is None
    (check,) = missing_run_node("0" * 32).checks
    assert (check.state, check.finding) == ("broken", "the tracking store has no such run")


def break_run(chain: Chain) -> None:
    chain.tracking.client().set_tag(chain.run_id, "lineage.manifest", "f" * 64)


def delete_run(chain: Chain) -> None:
    chain.tracking.client().delete_run(chain.run_id)


def break_version(chain: Chain) -> None:
    chain.tracking.client().set_model_version_tag("m", "1", "feature_set", "f" * 64)


def break_run_of_version(chain: Chain) -> None:
    chain.tracking.client().set_model_version_tag("m", "1", "run", "0123")


def break_carried_weights(chain: Chain) -> None:
    chain.stored("weights-weights.txt").write_text("3.0")


def break_carried_record(chain: Chain) -> None:
    rewrite(chain.stored("detector.json"), chain.features.index.fingerprint, "other-1")


def corrupt_carried_record(chain: Chain) -> None:
    chain.stored("detector.json").write_text("{")


def break_stored_model(chain: Chain) -> None:
    rewrite(chain.stored("MLmodel"), chain.features.index.manifest, "f" * 64)


def replace_weights(chain: Chain) -> None:
    save_bundle(model(chain.features, seed=1), chain.stored("weights.safetensors").parent)


def delete_weights(chain: Chain) -> None:
    chain.stored("weights.safetensors").unlink()


def replace_matcher_code(chain: Chain) -> None:
    rewrite(chain.stored("matcher.py"), "class RegisteredMatcher", "import os\n\n\nclass RegisteredMatcher")


def replace_script(chain: Chain) -> None:
    rewrite(chain.stored("pyfunc.py"), "import sys", "import os, sys")


def add_importable_code(chain: Chain) -> None:
    package = chain.stored("matcher.py").parents[2]
    assert package.parent.name == "code"
    package.with_name("pandas.py").write_text("print('not pandas')")


def delete_code(chain: Chain) -> None:
    shutil.rmtree(chain.stored("matcher.py").parents[3])


def break_recorded_digest(chain: Chain) -> None:
    chain.tracking.client().delete_model_version_tag("m", "1", "bundle.sha256")


def break_dataset(chain: Chain) -> None:
    chain.tracking.client().set_model_version_tag("m", "1", "dataset", "other")


def break_licence(chain: Chain) -> None:
    chain.tracking.client().set_model_version_tag("m", "1", "detector.licence", "MIT")


def break_class_names(chain: Chain) -> None:
    rewrite(chain.stored("detector.json"), '"stripe"', '"zebra"')


def break_loader(chain: Chain) -> None:
    rewrite(chain.stored("MLmodel"), "mlflow.pyfunc.loaders.code_model", "mlflow.sklearn")


def add_pickle(chain: Chain) -> None:
    chain.stored("MLmodel").with_name("python_model.pkl").write_text("pickle")


def cache_other_code(source: Path, mode: py_compile.PycInvalidationMode) -> None:
    """Writes bytecode that Python runs instead of a source, of the same size and time."""
    other = source.with_name("other")
    other.write_text("x = 1\n".ljust(source.stat().st_size))
    os.utime(other, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    py_compile.compile(str(other), cfile=cache_from_source(source), doraise=True, invalidation_mode=mode)
    other.unlink()


def cache_other_matcher(chain: Chain) -> None:
    cache_other_code(chain.stored("matcher.py"), py_compile.PycInvalidationMode.TIMESTAMP)


def cache_unchecked_script(chain: Chain) -> None:
    cache_other_code(chain.stored("pyfunc.py"), py_compile.PycInvalidationMode.UNCHECKED_HASH)


def add_artifact(chain: Chain) -> None:
    chain.stored("vocabulary.json").parent.with_name("other.json").write_text("{}")


def add_to_bundle(chain: Chain) -> None:
    chain.stored("vocabulary.json").with_name("python_model.pkl").write_text("pickle")


def break_channels(chain: Chain) -> None:
    rewrite(chain.stored("conda.yaml"), "conda-forge", "https://conda.example.com")


def break_requirements(chain: Chain) -> None:
    rewrite(chain.stored("requirements.txt"), "numpy==", "numpie==")


def delete_stored_model(chain: Chain) -> None:
    shutil.rmtree(chain.folder / "artifacts" / "models")


@pytest.mark.parametrize(
    ("break_it", "kinds", "finding"),
    [
        (break_run, ["run", "version"], "manifest of its tags is ffff"),
        (delete_run, ["run"], "it is deleted; `mlflow runs restore --run-id"),
        (break_version, ["version", "version"], "feature_set of its tags is ffff"),
        (break_run_of_version, ["version"], "run of its tags is 0123, but the run has"),
        (break_carried_weights, ["version"] * 2, "computed from the detector that it carries it is stripes-"),
        (break_carried_record, ["version"] * 2, "its detector has the fingerprint other-1, its tags have stripes-"),
        (corrupt_carried_record, ["version"] * 2, "detector.json is corrupt"),
        (break_stored_model, ["version"], "manifest of its files is ffff"),
        (replace_weights, ["version"], "bundle.sha256 of its stored files is "),
        (delete_weights, ["version"], "its bundle has no weights.safetensors"),
        (replace_matcher_code, ["version"], "code.sha256 of its stored files is "),
        (replace_script, ["version"], "code.sha256 of its stored files is "),
        (add_importable_code, ["version"], "code.sha256 of its stored files is "),
        (delete_code, ["version"], "code is missing"),
        (break_recorded_digest, ["version"], "but its tags has missing"),
        (break_dataset, ["version"], "dataset of its files is tiny, but its tags has other"),
        (break_licence, ["version"], "detector.licence of its files is , but its tags has MIT"),
        (break_class_names, ["version"], "detector.sha256 of its stored files is "),
        (break_loader, ["version"], "loader_module of its MLmodel is 'mlflow.sklearn', but a registered version has"),
        (add_pickle, ["version"], "it has files that no registered version has: python_model.pkl"),
        (cache_other_matcher, ["version"], "it has bytecode that is not compiled from its code: code/shan_line_"),
        (
            cache_unchecked_script,
            ["version"],
            "it has bytecode that is not compiled from its code: __pycache__/pyfunc.",
        ),
        (add_artifact, ["version"], "it has files that no registered version has: artifacts/other.json"),
        (add_to_bundle, ["version"], "it has files that no registered version has: artifacts/bundle/python_model.pkl"),
        (break_channels, ["version"], "its conda.yaml states {'channels': ['https://conda.example.com']}, but that of"),
        (break_requirements, ["version"] * 2, "requirements.sha256 of its stored files is "),
        (delete_stored_model, ["version"], "not a model of this project (its MLmodel"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_broken_link_is_found(chain: Chain, break_it: Callable[[Chain], None], kinds: list[str], finding: str):
    break_it(chain)
    lineage = chain.trace()
    broken = found(lineage, "broken")
    assert [kind for kind, _ in broken] == kinds, lineage.text()
    assert any(finding in text for _, text in broken), lineage.text()


def test_deleted_run_is_a_broken_link(chain: Chain):
    client = chain.tracking.client()
    version = client.create_model_version("m", "file:///nowhere", run_id="0" * 32, tags=chain.features.lineage)
    lineage = chain.trace(f"models:/m/{version.version}")
    assert ("run", "the tracking store has no such run") in found(lineage, "broken")
    assert ("feature set", "its URI and its digest are tags of the run") in found(lineage, "not checked")


@pytest.mark.parametrize("names", [DIGESTS, DIGESTS[2:]], ids=["all", "detector and requirements"])
def test_digests_that_are_not_recorded_are_not_checked(chain: Chain, names: tuple[str, ...]):
    """A version that an earlier release registered."""
    metadata = yaml.safe_load(chain.stored("MLmodel").read_text())
    for name in names:
        chain.tracking.client().delete_model_version_tag("m", "1", name)
        del metadata["metadata"][name]
    chain.stored("MLmodel").write_text(yaml.safe_dump(metadata))
    lineage = chain.trace()
    assert not lineage.is_broken, lineage.text()
    assert found(lineage, "not checked") == [
        ("version", f"{', '.join(names)} not recorded; an earlier release registered it")
    ]
    assert load_model(chain.tracking, "models:/m/1").run_id == chain.run_id
    delete_weights(chain)
    assert found(chain.trace(), "broken") == [("version", "its bundle has no weights.safetensors")]


def test_a_detector_of_another_release_is_not_checked(chain: Chain):
    document = chain.stored("detector.json")
    recorded = detector_digest(document.parent)
    rewrite(document, "shan-detector/1", "shan-detector/2")
    rewrite(chain.stored("MLmodel"), recorded, detector_digest(document.parent))
    chain.tracking.client().set_model_version_tag("m", "1", "detector.sha256", detector_digest(document.parent))
    lineage = chain.trace()
    assert not lineage.is_broken, lineage.text()
    ((kind, finding),) = found(lineage, "not checked")
    assert kind == "version"
    assert "use the release of this project that registered the model" in finding
