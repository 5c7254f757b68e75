"""Metrics over the steps since the last logged ones."""

import resource
import sys
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipelines.training.batches import Batch
from shan_model.gather import max_over_ranks, sum_over_ranks


@dataclass
class MetricWindow:
    """Losses, gradient norms, captions and times of some steps of one rank."""

    losses: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    captions: int = 0
    batches: int = 0
    last: Batch | None = None
    """The last batch of this rank."""
    is_mined: bool = False
    """Whether the loss of the last step takes only the hardest negatives."""
    waited_s: float = 0.0
    """Time that the steps waited for their batches."""
    start: float = field(default_factory=time.perf_counter)

    def summary(self, ranks: int, rates: dict[str, float], device: torch.device) -> dict[str, float]:
        """Returns `rates` and the metrics of the window over all ranks, each of which has to call this.

        `captions_per_s` is the throughput of all ranks, `data_wait_fraction` that of the rank that waited longest, and
        `memory_gb` the peak of this rank's GPU, or of its process.
        """
        seconds = time.perf_counter() - self.start
        return {
            "loss": sum_over_ranks(torch.stack(self.losses).mean()).item() / ranks,
            "grad_norm": torch.stack(self.norms).mean().item(),
            **rates,
            "captions_per_s": self.captions * ranks / seconds,
            "data_wait_fraction": max_over_ranks(torch.tensor(self.waited_s / seconds, device=device)).item(),
            "memory_gb": _peak_memory(device) / 1e9,
            "num_workers": ranks,
        }


def _peak_memory(device: torch.device) -> int:
    """Returns bytes: of the GPU if there is one, otherwise of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
