"""Registered versions in a new virtual environment that has the packages of requirements.txt and nothing else.

Its user has packages with the names of this project's, and gives images in every form.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests

from infra.model_artifacts import register
from infra.registry import set_champions
from infra.source_tree import PACKAGES
from infra.tracking import TrackingConfig, connect
from pipelines.detectors import registry
from pipelines.models.config import RegisterConfig
from pipelines.models.detector_package import detector_package
from pipelines.models.images import read_image
from pipelines.models.matcher import RegisteredMatcher
from pipelines.models.package import package_model
from tests.support.photos import Photos
from tests.support.registered import CAPTIONS, embedded_detector, matcher, serving, tiny_network, write_plugin

pytestmark = [pytest.mark.cluster, pytest.mark.long]  # installs torch and MLflow: minutes, and the network
NAME, CHAMPION = "fresh", "models:/fresh@champion"
CONSUMER = """
import base64, json, sys
import infra, jobs, pipelines, shan_model
import mlflow, numpy as np, pandas as pd
from mlflow.exceptions import MlflowException
from PIL import Image

path, caption = sys.argv[1], "a dog on a beach"
data = open(path, "rb").read()
model, other = (mlflow.pyfunc.load_model(f"models:/fresh{version}") for version in ("@champion", "/2"))

def score(column, value, model=model):
    return model.predict(pd.DataFrame({column: [value], "caption": [caption]}))[0]

found = {"forms": {}}
for form, value in {
    "path": path,
    "bytes": data,
    "base64": base64.b64encode(data).decode(),
    "PIL image": Image.open(path),
    "array": np.asarray(Image.open(path).convert("RGB")),
}.items():
    found["forms"][form] = score("image", value)
found["forms"]["regions"] = score("regions", np.load("regions.npy"))
found["other"] = score("image", path, other)
found["forms"]["after the other version"] = score("image", path)
bad = pd.DataFrame({"image": [path, b"no image"], "caption": caption})
found["null"] = model.predict(bad, params={"on_error": "null"})
try:
    model.predict(bad)
except MlflowException as error:
    found["error"] = str(error)
pairs = pd.DataFrame({"image": [path] * 2, "caption": [caption, "two men"]})
found["tasks"] = {task: len(model.predict(pairs, params={"task": task})) for task in ("rank", "explain", "encode")}
found["own"] = [package.OWN for package in (infra, jobs, pipelines, shan_model)]
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Fresh:
    """The environment, a folder with packages of its user, and the models of both versions in this process."""

    folder: Path
    python: Path
    champion: RegisteredMatcher
    other: RegisteredMatcher
    photo: Path

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables with which MLflow finds the registry, and Python nothing of this project."""
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return inherited | {"MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db"}

    def run(self, *arguments: object) -> str:
        """Runs Python of the environment in the user's folder; returns its output."""
        command = [str(self.python), *map(str, arguments)]
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=self.folder / "user",
            env=self.variables,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def expected(self, model: RegisteredMatcher, *captions: str) -> list[float]:
        """Returns the scores of the photo by a model of this process."""
        scores = model.predict(pd.DataFrame({"image": str(self.photo), "caption": captions}), None)
        assert isinstance(scores, list)
        return scores


@pytest.fixture(scope="module")
def fresh(real_photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    """Registers a version with the `embedded` detector, the champion, and one with a plugin; installs the former's."""
    folder = tmp_path_factory.mktemp("fresh")
    tracking = connect(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db"))
    plugin = write_plugin(folder / "plugin")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder / "plugin"))
        fingerprint = registry.resolve(plugin.name, plugin.settings).fingerprint()
        detectors = (embedded_detector(), detector_package(plugin, fingerprint, RegisterConfig()))
        models = []
        for number, (detector, width) in enumerate(zip(detectors, (2048, 8), strict=True), 1):
            here, shan = folder / str(number), tiny_network(width)
            models.append(matcher(here, shan, detector))
            package = package_model(here / "bundle", shan.config, {"dataset": "tiny"}, detector, here / "parts")
            assert register(tracking, tracking.create_run("m", {}), NAME, package) == number
        set_champions(tracking, NAME, [1])
        python = install(folder)
        shutil.rmtree(folder / "plugin")  # the version carries it
        for package_name in PACKAGES:
            (folder / "user" / package_name).mkdir(parents=True)
            (folder / "user" / package_name / "__init__.py").write_text(f"OWN = {package_name!r}")
        photo = real_photos.folder / real_photos.names()[0]
        models[0].detector.require("cpu")
        (regions,) = models[0].detector([read_image(str(photo))], "cpu")
        np.save(folder / "user" / "regions.npy", regions.features_RF)
        yield Fresh(folder, python, models[0], models[1], photo)
    for name in [name for name in sys.modules if name.startswith("striped_detector")]:
        del sys.modules[name]


def install(folder: Path) -> Path:
    """Creates a virtual environment with the packages of the champion, as the how-to does; returns its Python."""
    store = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    download = ["-m", "mlflow", "artifacts", "download", "-u", CHAMPION, "-d", folder / "model"]
    subprocess.run([sys.executable, *download], check=True, env=store)
    subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
    python = folder / "environment" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", folder / "model" / "requirements.txt"], check=True)
    installed = subprocess.run([python, "-m", "pip", "list"], check=True, capture_output=True, text=True).stdout
    assert "shan-line" not in installed
    return python


def test_every_form_has_the_scores_of_this_process(fresh: Fresh):
    found = json.loads(fresh.run("-c", CONSUMER, fresh.photo).splitlines()[-1])
    (score,) = fresh.expected(fresh.champion, CAPTIONS[0])
    assert found["forms"] == pytest.approx(dict.fromkeys(found["forms"], score), abs=1e-5)
    assert found["other"] == pytest.approx(fresh.expected(fresh.other, CAPTIONS[0])[0], abs=1e-5)
    assert found["null"] == [pytest.approx(score, abs=1e-5), None]
    assert "row 1, column image: not an image of a known format" in found["error"]
    assert found["tasks"] == {"rank": 2, "explain": 2, "encode": 2}
    assert found["own"] == ["infra", "jobs", "pipelines", "shan_model"]


def test_mlflow_computes_and_serves_rows(fresh: Fresh):
    image = base64.b64encode(fresh.photo.read_bytes()).decode()
    rows = {"dataframe_records": [{"image": image, "caption": caption} for caption in CAPTIONS]}
    given, written = fresh.folder / "rows.json", fresh.folder / "scores.json"
    given.write_text(json.dumps(rows))
    options = ["-m", CHAMPION, "-i", given, "-o", written, "-t", "json", "--env-manager", "local"]
    fresh.run("-m", "mlflow", "models", "predict", *options)
    expected = pytest.approx(fresh.expected(fresh.champion, *CAPTIONS), abs=1e-5)
    assert json.loads(written.read_text())["predictions"] == expected
    with serving(fresh.python, CHAMPION, fresh.folder / "user", fresh.variables) as address:
        assert requests.post(address, json=rows, timeout=60).json()["predictions"] == expected
        refused = requests.post(address, json={"dataframe_records": [{"image": "AAAA", "caption": "a"}]}, timeout=60)
    assert refused.status_code == 400
    assert "row 0, column image: " in refused.json()["message"]
