"""The parameters of a prediction, given as `params` of `predict`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin

from infra.errors import UserError


@dataclass(frozen=True)
class Params:
    """What to compute, and how."""

    task: Literal["score", "rank", "explain", "encode"] = "score"
    """`score`: one score for each row. `rank`: all captions for each image, or all images for each caption, best first.
    `explain`: the score of each row by levels and words. `encode`: regions and words in the joint space."""
    query: Literal["image", "caption"] = "image"
    """Of `rank`: `image` ranks the captions for each image, `caption` the images for each caption."""
    top_k: int = 0
    """Of `rank`: number of results for each query; 0 returns all."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` multiplies the widest products of the scores in bfloat16."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where detector and model run; `auto` is a GPU if there is one."""
    batch_size: int = 256
    """Images whose encodings are in memory at a time, and captions that are encoded at a time. Encodings of captions
    are kept up to 100 words for each of them."""
    fingerprint: str = ""
    """Fingerprint of the detector that `regions` come from. If it is given, it must be the model's."""
    on_error: Literal["raise", "null"] = "raise"
    """`raise` fails for a row that cannot be used, `null` returns null for it."""

    def __post_init__(self) -> None:
        """Raises UserError naming the parameter, its value and the constraint."""
        for spec in fields(self):
            value = getattr(self, spec.name)
            if get_origin(spec.type) is Literal and value not in get_args(spec.type):
                choices = ", ".join(get_args(spec.type))
                raise UserError(f"params: {spec.name} is {value!r}; choose one of: {choices}")
        if not (isinstance(self.top_k, int) and isinstance(self.batch_size, int)):
            raise UserError(
                f"params: top_k is {self.top_k!r} and batch_size is {self.batch_size!r}; give whole numbers"
            )
        if self.top_k < 0 or self.batch_size < 1:
            raise UserError(
                f"params: top_k is {self.top_k} and batch_size is {self.batch_size}; give at least 0 and at least 1"
            )

    @classmethod
    def of(cls, params: Mapping[str, Any] | None) -> "Params":
        """Returns the parameters with these values, and the defaults of the others.

        Raises UserError for a value as above and for an unknown name. MLflow's `predict` and its server drop unknown
        names, with a warning, before they call the model.
        """
        known = [spec.name for spec in fields(cls)]
        if unknown := [name for name in params or {} if name not in known]:
            raise UserError(f"params: {unknown[0]} is unknown; choose from: {', '.join(known)}")
        return cls(**(params or {}))
