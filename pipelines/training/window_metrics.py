"""Metrics of a training that its ranks record for every window of steps (infra/metrics.py)."""

import time

import torch

from infra.metrics import (
    CAPTIONS_PER_SECOND,
    GRADIENT_NORM,
    MFU_RATIO,
    TRAINING_CAPTIONS,
    TRAINING_LOSS,
    TRAINING_MEMORY,
    TRAINING_STEPS,
    WAIT_RATIO,
)
from pipelines.training.checkpoint import TrainState
from pipelines.training.config import TrainConfig
from pipelines.training.flop import is_counted, peak, utilisation
from pipelines.training.metric_window import MetricWindow
from shan_model.encoders import GruEncoder


def record_window(
    window: MetricWindow, summary: dict[str, float], state: TrainState, config: TrainConfig, run: str, rank: int
) -> None:
    """Records a window and its summary over all ranks: rank 0 what they have in common, each rank its memory."""
    device = next(state.shan.parameters()).device
    kind = "gpu" if device.type == "cuda" else "cpu"
    TRAINING_MEMORY.set(summary["memory_gb"] * 1e9, run=run, rank=str(rank), device=kind)
    if rank:
        return
    ranks = int(summary["num_workers"])
    TRAINING_STEPS.add(len(window.losses))
    TRAINING_CAPTIONS.add(window.captions * ranks)
    TRAINING_LOSS.set(summary["loss"], run=run)
    GRADIENT_NORM.set(summary["grad_norm"], run=run)
    CAPTIONS_PER_SECOND.set(summary["captions_per_s"], run=run)
    WAIT_RATIO.set(summary["data_wait_fraction"], run=run)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    if (mfu := mfu_of(window, state, ranks, peak(card, config.precision == "bf16"))) is not None:
        MFU_RATIO.set(mfu, run=run)


def mfu_of(window: MetricWindow, state: TrainState, ranks: int, limit: float | None) -> float | None:
    """Returns the MFU of a window on cards of a peak (FLOP/s); None if that is not known or its FLOP are not counted.

    All batches count as the last one.
    """
    batch, encoder, model = window.last, state.shan.text_encoder, state.shan.config
    is_known = window.is_mined and is_counted(model)
    if limit is None or batch is None or not is_known or not isinstance(encoder, GruEncoder):
        return None
    words = [len(encoder.tokens(caption)) for caption in batch.captions]
    regions = round(sum(map(len, batch.regions)) / len(batch.regions))
    batches_per_s = window.batches / (time.perf_counter() - window.start)
    return utilisation(model, regions, words, batches_per_s, ranks, limit)
