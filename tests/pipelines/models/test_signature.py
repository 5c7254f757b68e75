"""What MLflow shows of a registered model: inputs, outputs, parameters and an example."""

import base64
import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.features.npy import load_npy
from pipelines.models.params import Params
from pipelines.models.signature import input_example, signature


def test_signature_example_and_params_are_logged(registered: Path):
    import mlflow

    signature = mlflow.models.get_model_info(str(registered)).signature
    assert signature.inputs.input_names() == ["image", "regions", "boxes", "caption"]
    assert {"score", "rank", "S_L2L", "words", "region_vectors"} <= set(signature.outputs.input_names())
    assert {spec.name: spec.default for spec in signature.params} == asdict(Params())
    model = mlflow.pyfunc.load_model(str(registered))
    example, params = model.input_example, {"task": "score"}
    assert np.isfinite(model.predict(example, params=params)).all()


def test_every_column_is_optional():
    """Each task has its own, and a frame with a column too few is refused with the name of the row."""
    found = signature()
    assert not [spec.name for spec in (*found.inputs.inputs, *found.outputs.inputs) if spec.required]


def test_the_example_of_a_model_for_images_is_a_png():
    frame, params = input_example(2048, takes_images=True)
    assert (frame.columns.tolist(), len(frame), params) == (["image", "caption"], 2, {"task": "score"})
    assert Image.open(io.BytesIO(base64.b64decode(frame.image[0]))).size == (48, 32)


def test_the_example_of_a_model_for_features_has_their_width():
    frame, _ = input_example(7, takes_images=False)
    assert frame.columns.tolist() == ["regions", "caption"]
    regions_RF = load_npy(base64.b64decode(frame.regions[0]))
    assert (regions_RF.shape, regions_RF.dtype) == ((1, 7), np.float16)
