"""The pyfunc of a registered SHAN model. MLflow copies this file into the model and runs it to load the model.

The version carries the modules behind it in a package of its own (pipelines/models/carried_code.py), which is imported
when the model is loaded and not when it is logged. Nothing is unpickled.

    model = mlflow.pyfunc.load_model("models:/shan-scenes@champion")
    model.predict(frame)                    # frame: columns `regions` (R x F numbers) and `caption`; one score per row
    model.unwrap_python_model().shan        # the network, a torch module
"""

from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

if TYPE_CHECKING:
    from shan_model.model import SHAN


class ShanMatcher(PythonModel):
    """Scores pairs of a photo, given by its region features, and a caption."""

    def load_context(self, context: Any) -> None:
        """Loads the model bundle."""
        from pipelines.models.matcher import RegisteredMatcher

        self._matcher = RegisteredMatcher(context.artifacts)

    @property
    def shan(self) -> "SHAN":
        """The network."""
        return self._matcher.shan

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[float]:  # noqa: ARG002 - MLflow's call
        """Returns the score of each row's `regions` (R x F) with its `caption`."""
        return self._matcher.predict(model_input)


set_model(ShanMatcher())
