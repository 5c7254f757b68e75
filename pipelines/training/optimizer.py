"""The optimizer, with a learning rate for each group of weights."""

from collections import defaultdict
from typing import Any

import torch
from torch import nn

from pipelines.training.config import TrainConfig
from shan_model.hf_encoder import HuggingFaceEncoder
from shan_model.model import SHAN


def optimizer_of(shan: SHAN, config: TrainConfig) -> torch.optim.Adam:
    """Returns Adam over the weights that train, after freezing the others.

    The weights with the same peak learning rate are a group, whose `peak` it is; the first group has
    `config.learning_rate`.
    """
    peaks: dict[nn.Parameter, float] = dict.fromkeys(shan.parameters(), config.learning_rate)
    if isinstance(encoder := shan.text_encoder, HuggingFaceEncoder):
        if config.freeze_text_encoder:
            encoder.freeze()
        for weight, layers in encoder.layers_above():
            top = config.text_encoder_learning_rate or config.learning_rate
            peaks[weight] = top * config.text_encoder_layer_decay**layers
    groups: dict[float, list[nn.Parameter]] = defaultdict(list)
    for weight, peak in peaks.items():
        if weight.requires_grad:
            groups[peak].append(weight)
    options: list[dict[str, Any]] = [{"params": weights, "peak": peak} for peak, weights in groups.items()]
    return torch.optim.Adam(options, lr=config.learning_rate)


def current_rates(optimizer: torch.optim.Adam, config: TrainConfig) -> dict[str, float]:
    """Returns the learning rates of the last step by metric: `lr`, and `text_encoder_lr` if that rate is another."""
    rate_of_peak = {group["peak"]: group["lr"] for group in optimizer.param_groups}
    peaks = {"lr": config.learning_rate, "text_encoder_lr": config.text_encoder_learning_rate}
    return {metric: rate_of_peak[peak] for metric, peak in peaks.items() if peak in rate_of_peak}
