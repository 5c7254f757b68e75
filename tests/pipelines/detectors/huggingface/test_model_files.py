"""Tests of the files of a model: folders and names that are accepted, the hub's cache, and weights that are refused."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from infra import hub
from infra.errors import StorageError, UserError
from pipelines.detectors.huggingface.config import PatchesConfig
from pipelines.detectors.huggingface.model_files import fetch_model, file_names, pinned_model, sha256_of
from tests.pipelines.detectors.huggingface.conftest import Models
from tests.support.bad_stores import UNREADABLE
from tests.support.web_server import drips, web_server

NAME, COMMIT = "someone/tiny-vit", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(models: Models, tmp_path: Path) -> Path:
    """A copy of a model that a test may change."""
    return Path(shutil.copytree(models("vit"), tmp_path / "vit"))


def test_folder_becomes_absolute_and_hub_name_needs_revision(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert pinned_model("vit") == pinned_model("./vit") == pinned_model(f"file://{folder}") == str(folder)
    for wrong in ("org/vit", "no such folder", 3, None, "org/a/b@main"):
        with pytest.raises(UserError, match=r"neither a folder here nor a hub name with a revision; give"):
            pinned_model(wrong)
    with pytest.raises(UserError, match="is a URI; give a path on this machine"):
        pinned_model("s3://bucket/vit")


def test_only_config_preprocessing_and_safetensors_are_read(folder: Path):
    for name in ("pytorch_model.bin", "modeling_vit.py", "optimizer.pt", "README.md"):
        (folder / name).write_text("x")
    assert file_names(folder, "vit") == ["config.json", "preprocessor_config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "it has no config.json; save model and image processor"),
        ("preprocessor_config.json", "it has no preprocessor_config.json; save model and image processor"),
        ("model.safetensors", "it has no model.safetensors; give a revision with safetensors"),
    ],
)
def test_a_missing_file_is_named(folder: Path, name: str, message: str):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"model {folder}: {message}"):
        file_names(folder, str(folder))


def test_a_model_with_pickled_weights_only_is_refused(folder: Path):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"it has no model\.safetensors, only pytorch_model.bin, a pickle, which could"):
        file_names(folder, str(folder))


def test_a_missing_folder_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match="the folder does not exist; give one that exists on every node"):
        file_names(tmp_path / "none", "none")


def test_weights_in_parts_are_those_of_their_index(folder: Path):
    (folder / "model.safetensors").unlink()
    parts = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": parts[1], "b": parts[0], "c": parts[1]}}))
    (folder / parts[0]).write_bytes(b"")
    with pytest.raises(UserError, match=f"{parts[1]} is missing"):
        file_names(folder, "vit")
    (folder / parts[1]).write_bytes(b"")
    assert file_names(folder, "vit")[2:] == [index.name, *parts]
    for wrong in (
        '{"weight_map": {"a": "../secret.safetensors"}}',
        '{"weight_map": {}}',
        "{}",
        "[1",
        '{"weight_map": 1}',
    ):
        index.write_text(wrong)
        with pytest.raises(UserError, match=r"index.json (names files other than|is corrupt)"):
            file_names(folder, "vit")
    index.unlink()
    index.symlink_to(UNREADABLE)
    with pytest.raises(StorageError, match=f"{index}: cannot be accessed"):
        file_names(folder, "vit")


@pytest.fixture
def hub_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a node without network, filled as `hf download` fills it."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    repository = cache / f"models--{NAME.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return repository / "snapshots" / COMMIT


def test_a_hub_name_resolves_in_a_cache_without_network(hub_cache: Path):
    assert pinned_model(f"{NAME}@main") == f"{NAME}@{COMMIT}"
    assert fetch_model(f"{NAME}@{COMMIT}") == hub_cache, "as workers do, which do not follow a branch that moves"


def test_a_detector_is_planned_and_loaded_from_the_cache(hub_cache: Path):
    spec = PatchesConfig(f"{NAME}@main")
    assert spec.verified_folder() == hub_cache
    assert spec.folders["model"][0] == hub_cache / "config.json"
    assert spec.fingerprint() == PatchesConfig(str(hub_cache)).fingerprint()


def test_a_model_that_cannot_be_fetched_is_one_line(hub_cache: Path):
    with pytest.raises(UserError, match=r"cannot be fetched .*hf download other/model --revision v1") as raised:
        fetch_model("other/model@v1")
    assert "\n" not in str(raised.value)


def test_a_hub_that_drips_is_given_up(hub_cache: Path, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    monkeypatch.setattr(hub, "GRACE_S", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with web_server(drips(b"HTTP/1.1 200 OK\r\nX-Part: ", b"a", 1.0)) as (uri, connections):
        monkeypatch.setattr(constants, "ENDPOINT", uri.removesuffix("/a.jpg"))
        with pytest.raises(UserError, match=r"cannot be fetched from the hub \(the hub http://127\S+ sends less than"):
            fetch_model("other/model@v1")
        assert connections


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'shan-line\[hf\]'"):
        fetch_model("org/vit@main")


def test_an_unreadable_file_is_one_line(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a").startswith("ba7816bf")
    with pytest.raises(UserError, match="cannot be read"):
        sha256_of(tmp_path)
