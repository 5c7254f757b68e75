"""Vision models with random weights, a few kilobytes each, in the layout of the Hugging Face hub."""

import json
from pathlib import Path
from typing import Any

import torch

LABELS = {0: "N/A", 1: "cat", 2: "dog", 3: "tree"}
QUERIES = 14
WIDTH = 32
"""Width of the hidden states."""
MAP = 24
"""Channels of the last map of the convolutional backbones."""
DETECTORS = ("detr", "conditional_detr", "deformable_detr", "rt_detr", "yolos")
BACKBONES = ("vit", "dinov2", "clip", "siglip", "resnet")
_SCALE = 3.0
"""Factor of the weights of linear layers: with those of an untrained model all queries are almost equal."""


def write_vision_model(folder: Path, family: str, seed: int = 0, **fields: Any) -> Path:
    """Writes config, preprocessing and weights of a family and returns the folder. `fields` are those of its config."""
    torch.manual_seed(seed)
    model, processor = _MAKERS[family](fields)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "norm" not in name:
                if "query" in name or "position" in name:
                    parameter.normal_(std=3)
                elif not parameter.any():  # tokens and last layers that start at 0
                    parameter.normal_(std=0.3)
                elif parameter.ndim < 4:
                    parameter.mul_(_SCALE)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def _resnet(**fields: Any) -> Any:
    from transformers import ResNetConfig

    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, MAP], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    return ResNetConfig(**{**sizes, "out_features": ["stage4"], **fields})


def _decoder(**fields: Any) -> dict[str, Any]:
    layers = {f"{part}_{size}": n for part in ("encoder", "decoder") for size, n in _LAYERS.items()}
    return {"d_model": WIDTH, "num_queries": QUERIES, "id2label": LABELS, "dropout": 0.0, **layers, **fields}


_LAYERS = {"layers": 2, "attention_heads": 2, "ffn_dim": 32}


def _detr(fields: dict[str, Any]) -> Any:
    from transformers import DetrConfig, DetrForObjectDetection

    config = DetrConfig(backbone_config=_resnet(), **{**_decoder(), **fields})
    return DetrForObjectDetection(config), _shortest_edge("DetrImageProcessor")


def _conditional_detr(fields: dict[str, Any]) -> Any:
    from transformers import ConditionalDetrConfig, ConditionalDetrForObjectDetection

    config = ConditionalDetrConfig(backbone_config=_resnet(), **{**_decoder(), **fields})
    return ConditionalDetrForObjectDetection(config), _shortest_edge("ConditionalDetrImageProcessor")


def _deformable_detr(fields: dict[str, Any]) -> Any:
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection

    backbone = _resnet(out_features=["stage3", "stage4"])
    levels = {"num_feature_levels": 3, "encoder_n_points": 2, "decoder_n_points": 2}
    config = DeformableDetrConfig(backbone_config=backbone, **{**_decoder(**levels), **fields})
    return DeformableDetrForObjectDetection(config), _shortest_edge("DeformableDetrImageProcessor")


def _rt_detr(fields: dict[str, Any]) -> Any:
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    names = ["stage2", "stage3", "stage4"]
    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, MAP], depths=[1, 1, 1, 1], layer_type="basic", out_features=names
    )
    sizes = {"encoder_hidden_dim": WIDTH, "encoder_in_channels": [8, 16, MAP], "decoder_in_channels": [WIDTH] * 3}
    sizes |= {"decoder_n_points": 2, "num_denoising": 0}
    config = RTDetrConfig(backbone_config=backbone, **{**_decoder(**sizes), **fields})
    return RTDetrForObjectDetection(config), _square("RTDetrImageProcessor", 96) | {"do_normalize": False}


def _yolos(fields: dict[str, Any]) -> Any:
    from transformers import YolosConfig, YolosForObjectDetection

    tokens = {"num_detection_tokens": QUERIES, "image_size": [128, 192], "patch_size": 16, "id2label": LABELS}
    return YolosForObjectDetection(YolosConfig(**{**_vit_sizes(), **tokens, **fields})), _shortest_edge(
        "YolosImageProcessor"
    )


def _vit(fields: dict[str, Any]) -> Any:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(**{**_vit_sizes(), "image_size": 64, "patch_size": 8, **fields})
    return ViTModel(config), _square("ViTImageProcessor", 64)


def _dinov2(fields: dict[str, Any]) -> Any:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    config = Dinov2WithRegistersConfig(**{**_vit_sizes(), "image_size": 98, "patch_size": 14, **fields})
    crop = {"size": {"shortest_edge": 80}, "do_center_crop": True, "crop_size": {"height": 70, "width": 70}}
    return Dinov2WithRegistersModel(config), _square("BitImageProcessor", 70) | crop


def _clip(fields: dict[str, Any]) -> Any:
    from transformers import CLIPConfig, CLIPModel

    vision = {**_vit_sizes(), "image_size": 64, "patch_size": 16, **fields}
    config = CLIPConfig(text_config=_text(), vision_config=vision, projection_dim=8)
    crop = {"size": {"shortest_edge": 64}, "do_center_crop": True, "crop_size": {"height": 64, "width": 64}}
    return CLIPModel(config), _square("CLIPImageProcessor", 64) | crop


def _siglip(fields: dict[str, Any]) -> Any:
    from transformers import SiglipConfig, SiglipModel

    vision = {**_vit_sizes(), "image_size": 64, "patch_size": 16, **fields}
    return SiglipModel(SiglipConfig(text_config=_text(), vision_config=vision)), _square("SiglipImageProcessor", 64)


def _resnet_model(fields: dict[str, Any]) -> Any:
    from transformers import ResNetModel

    processor = _square("ConvNextImageProcessor", 128) | {"size": {"shortest_edge": 128}, "crop_pct": 0.875}
    return ResNetModel(_resnet(**fields)), processor


def _vit_sizes() -> dict[str, Any]:
    return {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def _text() -> dict[str, Any]:
    return {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def _shortest_edge(kind: str) -> dict[str, Any]:
    return _square(kind, 0) | {"size": {"shortest_edge": 128, "longest_edge": 256}}


def _square(kind: str, side: int) -> dict[str, Any]:
    means = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "rescale_factor": 1 / 255}
    steps = dict.fromkeys(("do_resize", "do_rescale", "do_normalize"), True)
    return {"image_processor_type": kind, "size": {"height": side, "width": side}, "resample": 2, **means, **steps}


_MAKERS = {
    "detr": _detr,
    "conditional_detr": _conditional_detr,
    "deformable_detr": _deformable_detr,
    "rt_detr": _rt_detr,
    "yolos": _yolos,
    "vit": _vit,
    "dinov2": _dinov2,
    "clip": _clip,
    "siglip": _siglip,
    "resnet": _resnet_model,
}
