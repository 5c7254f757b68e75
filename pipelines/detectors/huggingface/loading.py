"""Loads networks and image processors: complete, finite float32 weights from safetensors, and no code of the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from infra.errors import UserError
from pipelines.detectors.huggingface.model_files import require_transformers
from shan_model.finite import NotFiniteError, require_finite_weights

if TYPE_CHECKING:
    from pipelines.detectors.huggingface.config import PretrainedConfig

BATCH_SIZES = {"cpu": 1, "cuda": 16}
"""Photos of one size in a forward pass. On a CPU single photos are as fast, and results do not depend on the batch."""
_NOT_USED = "pooler"
"""Part of a backbone that may lack weights, because region features do not depend on it."""


def load_network(spec: PretrainedConfig, folder: Path, kind: str, device: torch.device) -> nn.Module:
    """Returns the network of `transformers.<kind>` in evaluation mode on a device.

    Raises UserError if the weights are incomplete, not finite, or those of another kind of model.
    """
    loader = getattr(require_transformers(), kind)
    try:
        network, found = loader.from_pretrained(
            folder,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except Exception as error:  # the library raises anything for a model that does not fit
        raise spec.unusable(error) from error
    missing = sorted(name for name in found["missing_keys"] if _NOT_USED not in name)
    if missing:
        raise spec.unusable(f"{len(missing)} weight tensors are missing, the first is {missing[0]}")
    try:
        require_finite_weights(network.state_dict())
    except NotFiniteError as error:
        raise spec.unusable(str(error).partition(":")[0]) from error
    return network.eval().requires_grad_(False).to(device)


def load_processor(spec: PretrainedConfig, folder: Path) -> Any:
    """Returns the model's image processor. It works on the CPU with Pillow, so that its numbers are those of any node.

    Raises UserError if the model has none.
    """
    try:
        return require_transformers().AutoImageProcessor.from_pretrained(
            folder, backend="pil", trust_remote_code=False, local_files_only=True
        )
    except Exception as error:
        raise spec.unusable(error) from error


def processed(processor: Any, photo: np.ndarray, **changes: Any) -> Tensor:
    """Returns the network's input (3, H, W) for an RGB uint8 photo; `changes` replace the processor's settings."""
    found = processor(images=[Image.fromarray(photo)], return_tensors="pt", **changes)["pixel_values"]
    return found[0].float()


def find_backbone(network: nn.Module) -> nn.Module | None:
    """Returns the convolutional backbone of an object detector."""
    return next((part for name, part in network.named_modules() if name.rpartition(".")[2] == "backbone"), None)


def backbone_channels(spec: PretrainedConfig) -> int:
    """Returns the channels of the last map of an object detector's backbone. Builds the network without weights.

    Raises UserError for a model that cannot be built or has no convolutional backbone.
    """
    try:
        with torch.device("meta"):
            network = require_transformers().AutoModelForObjectDetection.from_config(
                spec.network, trust_remote_code=False
            )
    except Exception as error:
        raise spec.unusable(error) from error
    channels = getattr(find_backbone(network), "intermediate_channel_sizes", None)
    if not channels:
        raise UserError(f"model {spec.model}: it has no convolutional backbone; leave backbone_map at false")
    return int(channels[-1])
