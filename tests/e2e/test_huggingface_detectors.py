"""Detectors of Hugging Face models through the commands: extraction, verification, training, and a registered model.

The number of regions of the `huggingface` detector varies from photo to photo.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from pipelines.features.feature_set import FeatureSet
from tests.support.commands import run_here
from tests.support.photos import Photos
from tests.support.tiny_vision import LABELS, WIDTH, write_vision_model

pytestmark = pytest.mark.usefixtures("ray_session")
Call = Callable[..., str]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Returns a function that runs a command in this process, in an empty folder, and returns what it prints."""
    return partial(run_here, tmp_path)


def extract(call: Call, photos: Photos, detector: str, settings: dict[str, object]) -> FeatureSet:
    job = [f"--dataset={photos.dataset}", f"--photos={photos.folder}", "--extract.photos_per_shard=5"]
    job += [f"--extract.detector={detector}", f"--extract.detector_settings={json.dumps(settings)}"]
    uri = call("jobs.extract", *job).split()[0]
    assert call("jobs.features", "verify", uri).splitlines()[0].endswith(": intact")
    return FeatureSet.open(uri)


@pytest.mark.long
def test_training_accepts_varying_numbers_of_regions(call: Call, real_photos: Photos, tmp_path: Path):
    import mlflow

    model = write_vision_model(tmp_path / "tiny-detr", "deformable_detr")
    settings = {"model": "tiny-detr", "min_boxes": 2, "max_boxes": 12, "keep_score": 0.6}
    features = extract(call, real_photos, "huggingface", settings)
    split = features.split("train")
    counts = {len(boxes) for boxes in map(split.boxes, range(len(split)))}
    assert counts <= set(range(2, 13))
    assert len(counts) > 1, "the number of regions varies"
    assert features.index.detector.class_names == LABELS
    assert features.index.detector.settings == settings | {"model": str(model)}
    assert ": 2 to 12 regions x 32" in call("jobs.features", "inspect", features.uri)
    train = [f"--features={features.uri}", "--name=varying", f"--model.region_dim={WIDTH}", "--model.joint_dim=8"]
    train += ["--model.word_dim=8", "--train.epochs=1", "--train.batch_size=8", "--train.num_workers=1"]
    assert call("jobs.train", *train).startswith("varying version 1")
    use = ["--model=models:/varying/1", f"--features={features.uri}"]
    assert "| random baseline |" in call("jobs.evaluate", *use, "--split=test")
    assert "region order" in call("jobs.behaviour", *use, f"--report={tmp_path}/behaviour.html")
    assert call("jobs.rerank", *use)
    assert call("jobs.search", *use, f"--page={tmp_path}/search.html", "a wheel of all colours")
    assert call("jobs.features", "export", "--feature-format=tsv", features.uri, f"{tmp_path}/export")
    model.rename(tmp_path / "moved")  # the version carries the detector
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/build/mlflow/mlflow.db")
    loaded = mlflow.pyfunc.load_model("models:/varying/1")
    photo = str(real_photos.folder / real_photos.names()[0])
    (score,) = loaded.predict(pd.DataFrame({"image": [photo], "caption": ["a wheel of all colours"]}))
    assert isinstance(score, float)


@pytest.mark.long
def test_patches_of_a_backbone_are_extracted(call: Call, real_photos: Photos, tmp_path: Path):
    write_vision_model(tmp_path / "tiny-clip", "clip")
    features = extract(call, real_photos, "huggingface_patches", {"model": "./tiny-clip", "grid": 3})
    split = features.split("val")
    assert split[:].shape == (len(split), 9, WIDTH)
    assert split.meta[0]["classes"] == [0] * 9
