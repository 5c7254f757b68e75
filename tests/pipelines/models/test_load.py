"""Loading models by any URI; for corrupt or forged files none of their code runs and the error is one line."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from infra.errors import UserError
from infra.registry import set_champions
from infra.storage.open import open_store
from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.models.load import load_matcher, split_features
from shan_model.bundle import CONFIG, FORMAT, VOCABULARY, WEIGHTS
from shan_model.scoring import score_matrix
from tests.support.servers import S3Server
from tests.support.small_models import model, register_model, small_set, write_checkpoint


class Runs:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self):
        return Path.touch, (self._canary,)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory):
    """Returns a registry folder, its tracking config, and the feature set and network of its one version."""
    folder = tmp_path_factory.mktemp("registry")
    config = TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")
    features = small_set(folder)
    shan = model(features)
    register_model(connect(config), "m", shan, features, folder / "bundle")
    return folder, config, features, shan


def test_registered_model_is_read_without_running_its_code(stored, tmp_path: Path):
    folder, config, features, shan = stored
    code = [path for path in folder.rglob("pyfunc.py") if "mlruns" in str(path) or "artifacts" in str(path)]
    assert code
    for path in [*code, *folder.rglob("code/shan_line_*/**/*.py")]:
        path.write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    run_id = connect(config).client().get_model_version("m", "1").run_id
    for uri in ("models:/m/1", f"runs:/{run_id}", f"runs:/{run_id}/model"):
        found = load_matcher(connect(config), uri, features)
        assert all(torch.equal(a, b) for a, b in zip(found.parameters(), shan.parameters(), strict=True))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("pattern", "replacement", "said"),
    [
        (r"path: artifacts/\S+", "path: ../../../../../../../etc", "has a path outside of the model"),
        (r"path: artifacts/\S+", "path: artifacts/gone", "artifacts/gone is missing; use another version"),
        (r"path: artifacts/\S+", "path: [1]", "not a model of this project"),
        (r"  python_function:", "  pyfunc:", "not a model of this project"),
        (
            r"(?s)\A.*\Z",
            "!!python/object/apply:pathlib.Path.touch [{ran}]",
            "no such model|not a model of this project",
        ),
    ],
)
def test_a_forged_mlmodel_is_a_one_line_error(stored, tmp_path: Path, pattern: str, replacement: str, said: str):
    folder, config, features, _ = stored
    (file,) = folder.rglob("MLmodel")
    was = file.read_text()
    file.write_text(re.sub(pattern, replacement.format(ran=tmp_path / "ran"), was))
    assert file.read_text() != was
    try:
        with pytest.raises(UserError, match=said) as caught:
            load_matcher(connect(config), "models:/m/1", features)
    finally:
        file.write_text(was)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_an_unknown_format_is_a_one_line_error(stored, tmp_path: Path):
    _, _, features, shan = stored
    uri = write_checkpoint(tmp_path / "checkpoint", shan, features)
    file = tmp_path / "checkpoint" / CONFIG
    file.write_text(file.read_text().replace(FORMAT, "shan-model/9"))
    with pytest.raises(UserError, match="'shan-model/9', this release reads 'shan-model/1'; upgrade") as caught:
        load_matcher(None, uri, features)
    assert str(caught.value).startswith(uri)


def test_weights_that_are_not_finite_are_a_one_line_error(stored, tmp_path: Path):
    _, _, features, shan = stored
    uri = write_checkpoint(tmp_path / "checkpoint", shan, features)
    weights = load_file(tmp_path / "checkpoint" / WEIGHTS)
    weights["image_encoder.project.bias"][1] = torch.nan
    save_file(weights, tmp_path / "checkpoint" / WEIGHTS)
    said = "1 of 16 numbers of the weights 'image_encoder.project.bias' are NaN or infinite: the training diverged; use"
    with pytest.raises(UserError, match=f"^{re.escape(uri)}: {said} another version or checkpoint$"):
        load_matcher(None, uri, features)


def corruptions(folder: Path, canary: Path) -> dict[str, tuple[str, bytes]]:
    """Returns corruptions by name: a file of the checkpoint, and its new content."""
    config = json.loads((folder / CONFIG).read_text())
    weights, words = (folder / WEIGHTS).read_bytes(), json.loads((folder / VOCABULARY).read_text())
    return {
        "pickle": (WEIGHTS, pickle.dumps(Runs(canary))),
        "cut": (WEIGHTS, weights[:-7]),
        "empty": (WEIGHTS, b""),
        "header": (WEIGHTS, b"\xff" * 8 + weights[8:]),
        "narrower": (CONFIG, json.dumps(config | {"joint_dim": 8}).encode()),
        "unknown field": (CONFIG, json.dumps(config | {"x": 1}).encode()),
        "no config": (CONFIG, b"[]"),
        "no JSON": (CONFIG, b"{"),
        "no text": (CONFIG, b"\xff\xfe"),
        "words": (VOCABULARY, json.dumps(words[:-1]).encode()),
        "no words": (VOCABULARY, b"{}"),
        "lineage": ("lineage.json", b"[1, 2]"),
        "nested": ("lineage.json", b"[" * 100_000),
    }


@pytest.mark.parametrize(
    "which",
    [
        "pickle",
        "cut",
        "empty",
        "header",
        "narrower",
        "unknown field",
        "no config",
        "no JSON",
        "no text",
        "words",
        "no words",
        "lineage",
        "nested",
    ],
)
def test_a_corrupt_checkpoint_is_a_one_line_error(stored, tmp_path: Path, which: str):
    _, _, features, shan = stored
    uri = write_checkpoint(tmp_path / "checkpoint", shan, features)
    name, data = corruptions(tmp_path / "checkpoint", tmp_path / "ran")[which]
    (tmp_path / "checkpoint" / name).write_bytes(data)
    with pytest.raises(UserError, match=re.escape(uri)) as caught:
        load_matcher(None, uri, features)
    assert "\n" not in str(caught.value)
    assert "corrupt" in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_version_alias_and_run_load_the_same_model(stored, tracking: Tracking, tmp_path: Path):
    _, _, features, _ = stored
    shan = model(features, 5)
    number = register_model(tracking, "small", shan, features, tmp_path / "bundle")
    set_champions(tracking, "small", [number])
    run_id = tracking.client().get_model_version("small", str(number)).run_id
    split = features.split("val")
    expected = score_matrix(shan, split, split.captions)
    uris = ["models:/small/1", "models:/small@champion", f"runs:/{run_id}", f"runs:/{run_id}/model"]
    for loaded in (load_matcher(tracking, uri, features) for uri in uris):
        np.testing.assert_array_equal(score_matrix(loaded, split, split.captions), expected)
    for missing in ("models:/small/7", "runs:/0123", "models:/none@champion"):
        with pytest.raises(UserError, match=f"{missing}.*: no such model"):
            load_matcher(tracking, missing, features)


def test_a_checkpoint_in_s3_is_loaded(stored, s3_server: S3Server, tmp_path: Path):
    _, _, features, shan = stored
    local = Path(write_checkpoint(tmp_path / "local", shan, features))
    uri = f"s3://{s3_server.bucket}/runs/a/best"
    for file in local.iterdir():
        open_store(uri).replace(file.name, file.read_bytes())
    split = features.split("val")
    scores = [score_matrix(m, split, split.captions) for m in (shan, load_matcher(None, uri, features))]
    np.testing.assert_array_equal(*scores)


def test_missing_checkpoints_and_other_detectors_are_errors(stored, tmp_path: Path):
    _, _, features, shan = stored
    needs = r"nowhere: not a checkpoint folder of a model \(needs weights.safetensors, config.json"
    with pytest.raises(UserError, match=needs):
        load_matcher(None, str(tmp_path / "nowhere"), features)
    other = write_checkpoint(tmp_path / "other", shan, features)
    (tmp_path / "other" / "lineage.json").write_text(json.dumps({"fingerprint": "another-1"}))
    differs = r"other was made for features of another-1 but .* has features of made-up-0123; extract"
    with pytest.raises(UserError, match=differs):
        load_matcher(None, other, features)


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("models:/M/6", ("models:/M/6", None)),
        ("models:/M@champion=build/x", ("models:/M@champion", "build/x")),
        ("runs:/0123=s3://b/date=2026/x", ("runs:/0123", "s3://b/date=2026/x")),
        ("s3://b/date=2026/epoch-1", ("s3://b/date=2026/epoch-1", None)),
        ("s3://b/date=2026/epoch-1=s3://b/x", ("s3://b/date=2026/epoch-1", "s3://b/x")),
        ("/a/b=/c=/d", ("/a/b", "/c=/d")),
        ("a=./b", ("a", "./b")),
    ],
)
def test_a_model_may_name_its_own_feature_set(model: str, parts: tuple[str, str | None]):
    assert split_features(model) == parts
