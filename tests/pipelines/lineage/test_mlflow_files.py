"""What MLflow loads and installs for a version: its own script and requirements, or it is found broken."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.model_artifacts import StoredModel, download_model
from pipelines.lineage.mlflow_files import environment_check, loader_check
from tests.pipelines.lineage.conftest import Chain, rewrite


@pytest.fixture(scope="module")
def stored(intact: Chain, tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    return download_model(intact.tracking, "models:/m/1", tmp_path_factory.mktemp("stored"))


@pytest.fixture
def version(stored: StoredModel) -> Iterator[StoredModel]:
    """The version for a test that changes its files; they are restored afterwards."""
    files = {path: path.read_bytes() for path in stored.root.iterdir() if path.is_file()}
    yield stored
    for path in stored.root.iterdir():
        if path.is_file() and path not in files:
            path.unlink()
    for path, content in files.items():
        path.write_bytes(content)


def test_an_intact_version_loads_and_installs_its_own_files(stored: StoredModel):
    assert [check.state for check in (loader_check(stored), environment_check(stored))] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("stated", "finding"),
    [
        ({"loader_module": "mlflow.sklearn"}, "loader_module of its MLmodel is 'mlflow.sklearn', but a registered ver"),
        ({"data": "artifacts"}, "data of its MLmodel is 'artifacts', but a registered version has None"),
        ({"env": "other.yaml"}, "env of its MLmodel is 'other.yaml', but"),
        ({"code": "artifacts"}, "code of its MLmodel is 'artifacts', but"),
        ({"model_code_path": None}, "its MLmodel has no model_code_path"),
    ],
    ids=str,
)
def test_another_loader_is_broken(stored: StoredModel, stated: dict[str, object], finding: str):
    check = loader_check(replace(stored, flavor={**stored.flavor, **stated}))
    assert check.state == "broken"
    assert finding in check.finding


def test_a_file_of_no_registered_version_is_broken(version: StoredModel):
    (version.root / "python_model.pkl").write_text("pickle")
    check = loader_check(version)
    assert (check.state, check.finding) == ("broken", "it has files that no registered version has: python_model.pkl")


@pytest.mark.parametrize(
    ("name", "state"), [("vocab.txt", "ok"), ("special_tokens_map.json", "ok"), ("a.py", "broken")]
)
def test_only_files_of_tokenizers_are_beside_the_text_encoder(version: StoredModel, name: str, state: str):
    folder = version.artifact("bundle") / "text_encoder"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("")
    check = loader_check(version)
    (folder / name).unlink()
    assert check.state == state, check.finding


def test_bytecode_of_another_python_is_not_checked(version: StoredModel):
    cached = next((version.root / "code").iterdir()) / "__pycache__" / "__init__.cpython-39.pyc"
    cached.parent.mkdir(exist_ok=True)
    cached.write_bytes(bytes(16))
    check = loader_check(version)
    cached.unlink()
    assert check.state == "not checked"
    assert f"another version of Python: {cached.relative_to(version.root)}; trace it with that" in check.finding


@pytest.mark.parametrize(
    ("name", "old", "new", "finding"),
    [
        ("conda.yaml", "numpy==", "numpie==", "its conda.yaml installs numpie=="),
        (
            "conda.yaml",
            "- pip:",
            "- conda-package\n- pip:",
            "its conda.yaml installs conda-package, which its requirem",
        ),
        ("conda.yaml", "dependencies:", "other:", "its conda.yaml is corrupt ('dependencies')"),
        ("conda.yaml", "name:", "variables: {PIP_INDEX_URL: https://x}\nname:", "'variables': {'PIP_INDEX_URL': 'http"),
        ("python_env.yaml", "- wheel", "- wheel @ https://x", "its python_env.yaml installs wheel @ https://x, which"),
        ("python_env.yaml", "- -r req", "- -r other", "its python_env.yaml installs -r otheruirements.txt, which its "),
        ("requirements.txt", "numpy==", "numpie==", "its conda.yaml installs numpy=="),
    ],
)
def test_an_environment_with_other_packages_is_broken(
    version: StoredModel, name: str, old: str, new: str, finding: str
):
    rewrite(Path(version.root / name), old, new)
    check = environment_check(version)
    assert check.state == "broken"
    assert finding in check.finding


@pytest.mark.parametrize("name", ["conda.yaml", "python_env.yaml", "requirements.txt"])
def test_a_missing_environment_is_broken(version: StoredModel, name: str):
    (version.root / name).unlink()
    check = environment_check(version)
    assert check.state == "broken"
    assert f"its {name} is missing or corrupt" in check.finding
