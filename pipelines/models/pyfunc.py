"""The pyfunc of a registered SHAN model. MLflow copies this file into the model and runs it to load the model.

It imports `shan_model` (a copy is in the model), torch, numpy, pandas and safetensors. Nothing is unpickled.

    model = mlflow.pyfunc.load_model("models:/shan-scenes@champion")
    model.predict(frame)                    # frame: columns `regions` (R x F numbers) and `caption`; one score per row
    model.unwrap_python_model().shan        # the network, for all pairs (shan_model.scoring.score_matrix)
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from shan_model.bundle import load_bundle


class ShanMatcher(PythonModel):
    """Scores pairs of a photo, given by its region features, and a caption."""

    def load_context(self, context: Any) -> None:
        """Loads the model bundle."""
        self.shan = load_bundle(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[float]:  # noqa: ARG002 - MLflow's call
        """Returns the score of each row's `regions` (R x F) with its `caption`."""
        return [
            self._score(np.stack([np.asarray(region, np.float32) for region in regions]), caption)
            for regions, caption in zip(model_input["regions"], model_input["caption"], strict=True)
        ]

    @torch.inference_mode()
    def _score(self, regions_RF: np.ndarray, caption: str) -> float:
        return float(self.shan(torch.from_numpy(regions_RF)[None], [caption]))


set_model(ShanMatcher())
