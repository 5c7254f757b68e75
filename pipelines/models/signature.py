"""What MLflow shows of a registered model: inputs, outputs, parameters and an example."""

import base64
import io
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.features.npy import save_npy
from pipelines.models.params import Params
from pipelines.models.request import COLUMNS
from pipelines.models.tasks import LEVELS, OUTPUTS, WORD_FIELDS

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec


def signature() -> "ModelSignature":
    """Returns the schemas of all tasks. Columns are optional, since each task has its own (`tasks.OUTPUTS`).

    Input columns have any type: `read_request` names the row of a value of another type. MLflow would not, and would
    refuse the columns of an empty frame, which have no type.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema

    types = {str: DataType.string, int: DataType.long}
    params = [ParamSpec(spec.name, types.get(spec.type, DataType.string), spec.default) for spec in fields(Params)]  # type: ignore[arg-type]
    outputs = _output_types()
    names = dict.fromkeys(name for columns in OUTPUTS.values() for name in columns)
    return ModelSignature(
        inputs=Schema([_column(name) for name in COLUMNS]),
        outputs=Schema([_column(name, outputs[name]) for name in names]),
        params=ParamSchema(params),
    )


def _output_types() -> dict[str, Any]:
    """Returns the type of each column of the tasks, by name."""
    from mlflow.types import DataType
    from mlflow.types.schema import Array, Object, Property

    word_types = dict.fromkeys(WORD_FIELDS, DataType.string)
    word_types |= {"known": DataType.boolean, "region": DataType.long, "weight": DataType.double}
    word_types |= {"box": Array(DataType.double)}
    word = Object([Property(name, kind, required=name not in ("box", "class")) for name, kind in word_types.items()])
    matrix = Array(Array(DataType.float))
    return {
        **dict.fromkeys(("score", *LEVELS), DataType.double),
        **dict.fromkeys(("image_row", "caption_row", "rank"), DataType.long),
        **dict.fromkeys(("region_vectors", "word_vectors", "boxes"), matrix),
        "caption": DataType.string,
        "words": Array(word),
        "tokens": Array(DataType.string),
    }


def input_example(feature_dim: int, takes_images: bool) -> "tuple[pd.DataFrame, dict[str, Any]]":
    """Returns two rows of a request as a REST client sends them, and its parameters."""
    import pandas as pd
    from PIL import Image

    captions = ["a red square", "a blue circle"]
    if takes_images:
        buffer = io.BytesIO()
        Image.new("RGB", (48, 32), (200, 30, 30)).save(buffer, "PNG")
        column, data = "image", buffer.getvalue()
    else:
        column, data = "regions", save_npy(np.zeros((1, feature_dim), np.float16))
    text = base64.b64encode(data).decode()
    return pd.DataFrame({column: [text, text], "caption": captions}), {"task": "score"}


def _column(name: str, kind: Any = None) -> "ColSpec":
    from mlflow.types import ColSpec
    from mlflow.types.schema import AnyType

    return ColSpec(kind or AnyType(), name, required=False)
