"""A registered version in a new virtual environment that has the packages of its requirements.txt and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.photos import Photos
from tests.support.registered import CAPTIONS, embedded_detector, matcher, save_version, tiny_network

CONSUMER = """
import json, sys
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
frame = pandas.read_json(sys.argv[2])
tasks = [model.predict(frame, params={"task": task}) for task in ("rank", "explain", "encode")]
print(json.dumps([model.predict(frame), [len(result) for result in tasks]]))
"""


@pytest.mark.cluster
@pytest.mark.long  # installs torch and MLflow: minutes, and the network
def test_a_version_needs_only_its_requirements(real_photos: Photos, tmp_path: Path):
    images = [str(real_photos.folder / name) for name in real_photos.names()[: len(CAPTIONS)]]
    frame = pd.DataFrame({"image": images, "caption": CAPTIONS})
    frame.to_json(tmp_path / "rows.json")
    model = save_version(tmp_path / "version", tiny_network(), embedded_detector())
    python = tmp_path / "environment" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", str(model / "requirements.txt")], check=True)
    installed = subprocess.run([python, "-m", "pip", "list"], check=True, capture_output=True, text=True).stdout
    assert "shan-line" not in installed
    (tmp_path / "empty").mkdir()
    command = [python, "-c", CONSUMER, str(model), str(tmp_path / "rows.json")]
    result = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path / "empty", timeout=300)
    scores, lengths = json.loads(result.stdout.splitlines()[-1])
    here = matcher(tmp_path / "here", tiny_network(), embedded_detector())
    np.testing.assert_allclose(scores, here.predict(frame, None), atol=1e-5)
    assert lengths == [len(images) ** 2, len(images), len(images)]
