"""Configuration of the registration of a model."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RegisterConfig:
    """What a registered version contains beside the model."""

    detector: Literal["carry", "reference"] = "carry"
    """`carry` stores the detector's code and weights in the version, so that it takes images wherever it is loaded.
    `reference` stores only settings and the location of the weights, for weights that are large or private. The
    `embedded` detector is always carried."""
