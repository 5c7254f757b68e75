"""The pyfunc of a registered SHAN model. MLflow copies this file into the model and runs it to load the model.

The version carries the modules behind it in a package of its own (pipelines/models/carried_code.py), which is imported
when the model is loaded and not when it is logged. Nothing is unpickled.

    model = mlflow.pyfunc.load_model("models:/shan-scenes@champion")
    model.predict(pd.DataFrame({"image": ["photo.jpg", image_bytes], "caption": ["a dog on a beach", "two men"]}))
    model.unwrap_python_model().shan        # the network, a torch module
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

if TYPE_CHECKING:
    from shan_model.model import SHAN


def _forget_deleted_package() -> None:
    """Makes Python import the package again if the folder from which it was imported is gone.

    Without that, modules that are imported late would be missing: a model that was just registered was loaded from a
    temporary folder, to validate it.
    """
    for folder in (Path(__file__).parent / "code").iterdir():
        loaded = getattr(sys.modules.get(folder.name), "__file__", None)
        if loaded is not None and not Path(loaded).exists():
            for name in [name for name in sys.modules if name.split(".")[0] == folder.name]:
                del sys.modules[name]


class ShanMatcher(PythonModel):
    """Scores, ranks and explains pairs of images and captions (pipelines/models/matcher.py)."""

    def load_context(self, context: Any) -> None:
        """Loads the model bundle."""
        _forget_deleted_package()
        from pipelines.models.matcher import RegisteredMatcher

        self._matcher = RegisteredMatcher(context.artifacts, context.model_config)

    @property
    def shan(self) -> "SHAN":
        """The network."""
        return self._matcher.shan

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:  # noqa: ARG002 - MLflow's call
        """Returns the result of `params["task"]`: a score per row, or a table."""
        return self._matcher.predict(model_input, params)


set_model(ShanMatcher())
