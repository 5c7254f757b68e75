"""The pyfunc of a registered SHAN model: MLflow copies this file into the model and runs it to load it.

It needs `shan_model` (carried along), torch, numpy and safetensors; nothing is unpickled.

    model = mlflow.pyfunc.load_model("models:/shan-scenes@champion")
    model.predict(frame)                    # frame: columns `regions` (R x F numbers) and `caption`; a score per row
    model.unwrap_python_model().shan        # the network, for blocks of pairs (shan_model.scoring.score_matrix)
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
    """Scores photo-caption pairs, a row each."""

    def load_context(self, context: Any) -> None:
        """Reads weights, config and vocabulary."""
        self.shan = load_bundle(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[float]:  # noqa: ARG002 - MLflow's call
        """The SHAN score of each row's `regions` (R x F) with its `caption`."""
        return [
            self._score(np.stack([np.asarray(region, np.float32) for region in regions]), caption)
            for regions, caption in zip(model_input["regions"], model_input["caption"], strict=True)
        ]

    @torch.inference_mode()
    def _score(self, regions_RF: np.ndarray, caption: str) -> float:
        return float(self.shan(torch.from_numpy(regions_RF)[None], [caption]))


set_model(ShanMatcher())
