"""The registered model at work: loads a model bundle and scores rows. Part of the code that a version carries."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from shan_model.bundle import load_bundle


class RegisteredMatcher:
    """Scores pairs of a photo, given by its region features, and a caption. `artifacts` are the version's, by name."""

    def __init__(self, artifacts: Mapping[str, str]) -> None:
        self.shan = load_bundle(Path(artifacts["bundle"]))

    def predict(self, model_input: pd.DataFrame) -> list[float]:
        """Returns the score of each row's `regions` (R x F) with its `caption`."""
        return [
            self._score(np.stack([np.asarray(region, np.float32) for region in regions]), caption)
            for regions, caption in zip(model_input["regions"], model_input["caption"], strict=True)
        ]

    @torch.inference_mode()
    def _score(self, regions_RF: np.ndarray, caption: str) -> float:
        return float(self.shan(torch.from_numpy(regions_RF)[None], [caption]))
