"""Reads the checkpoint, strictly: every tensor of the layout with its shape, and no other."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from infra.errors import UserError
from pipelines.detectors.bottom_up.layout import COUNTERS, checkpoint_layout

_NAMED = 3
"""Keys that a report names; the rest it counts."""


def read_checkpoint(data: bytes, uri: str) -> dict[str, Tensor]:
    """Tensors of a checkpoint file by their keys, float32, without the counters.

    `uri` says what the file is (`.safetensors`, else written by torch.save) and is named in errors. UserError, in one
    line, if it cannot be read, or if keys or shapes are not those of the layout.
    """
    tensors = load_tensors(data, uri)
    check_layout(tensors, uri)
    return {name: tensor.float() for name, tensor in tensors.items() if not name.endswith(COUNTERS)}


def load_tensors(data: bytes, uri: str) -> dict[str, Tensor]:
    """Every tensor of a file. A torch file holds a state dict, plain or under "model", and runs no code of its own."""
    try:
        if uri.endswith(".safetensors"):
            return safetensors.torch.load(data)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:100]
        raise UserError(
            f"{uri}: no weights that can be read safely ({reason}); write the state dict, tensors only, "
            "with torch.save or safetensors"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("model"), Mapping):
        state = state["model"]
    if not isinstance(state, Mapping):
        raise UserError(f"{uri}: it holds a {type(state).__name__}; write a state dict, or one under 'model'")
    return {str(name): _tensor(value, f"{uri}: {name}") for name, value in state.items()}


def check_layout(tensors: Mapping[str, Tensor], uri: str) -> None:
    """UserError that counts, and names the first of, missing and unexpected keys and wrong shapes."""
    layout = checkpoint_layout()
    missing = [name for name in layout if name not in tensors and not name.endswith(COUNTERS)]
    unexpected = [name for name in tensors if name not in layout]
    wrong = [
        f"{name} {tuple(tensors[name].shape)} for {shape}"
        for name, shape in layout.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "wrong in shape": wrong}
    report = [f"{len(names)} {what} ({_first(names)})" for what, names in found.items() if names]
    if report:
        raise UserError(
            f"{uri}: not the bottom-up checkpoint of {len(layout)} keys: {'; '.join(report)}; "
            "give the Visual Genome Faster R-CNN (ResNet-101 C4) with attributes"
        )


def _tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        raise UserError(f"{what} is a {type(value).__name__}; write the state dict alone, tensors only")
    return value


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
