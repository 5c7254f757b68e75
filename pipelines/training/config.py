"""How a model is trained."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

PLACEMENT = (
    "num_workers",
    "min_workers",
    "cpus_per_worker",
    "use_gpu",
    "max_failures",
    "checkpoint_every_n_steps",
    "log_every_n_steps",
    "output",
)
"""Fields that say where and how safely a training runs, not what it trains: `--resume` may change them."""


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. Defaults are the paper's, or chosen where the paper states none."""

    epochs: int = 30
    """Passes over all captions of the train split."""
    batch_size: int = 128
    """Captions among which negatives are found, over all workers (not stated in the paper)."""
    gradient_accumulation_steps: int = 1
    """Batches whose gradients are averaged into one step of the optimizer; negatives stay within a batch."""
    data_mode: Literal["cache", "stream"] = "cache"
    """`cache`: shards on the node's disk (`cache.folder`), exact shuffles, the same on any number of workers; `stream`:
    for sets larger than that, shards in another order each epoch, shuffled within a window."""
    allow_same_photo: bool = False
    """Allow two captions of one photo in a batch; they are never each other's negatives."""
    num_workers: int = 2
    """Training processes (torch DDP); they share every batch."""
    min_workers: int = 0
    """Elastic training: as few as these will do while the cluster has no more. 0: always `num_workers`."""
    cpus_per_worker: int = 1
    """Logical CPUs of a process, and the threads that torch uses in it."""
    use_gpu: bool = False
    """One GPU a process."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` runs the encoders under autocast and multiplies the alignment's widest products in bfloat16."""
    learning_rate: float = 2e-4
    """Adam's step size after the warm-up (not stated in the paper)."""
    lr_schedule: Literal["step", "cosine", "constant"] = "step"
    """`step`: a tenth after `lr_decay_epoch` epochs (not stated in the paper); `cosine`: down to 0 at the last step."""
    lr_decay_epoch: int = 15
    """Epochs before the learning rate of the `step` schedule falls to a tenth, once (not stated in the paper)."""
    warmup_steps: int = 0
    """First steps, over which the learning rate rises from 0 in a straight line."""
    margin: float = 0.2
    """m of Eq. 17."""
    hard_negative_warmup_epochs: int = 0
    """First epochs on the mean of all violations; from scratch, hardest negatives can collapse. 0 is the paper."""
    max_grad_norm: float = 2.0
    """Largest global norm of a gradient (not stated in the paper)."""
    ema_decay: float = 0.0
    """Validate and keep an exponential moving average of the weights, this much of it staying at every step. 0: off."""
    early_stopping_patience: int = 0
    """Epochs without a better validation rSum after which training ends. 0: never before `epochs`."""
    min_word_count: int = 1
    """Words of the training captions seen less often become `<unk>`."""
    word_vectors: str = ""
    """GloVe or word2vec text, or .npz (`words`, `vectors`): the fixed half of the words' input (Eq. 2). Empty: none."""
    seed: int = 0
    """Seeds the weights and the order of the batches."""
    checkpoint_every_n_steps: int = 500
    """Steps between checkpoints, beside the one after each epoch; a restart repeats the steps since the last."""
    log_every_n_steps: int = 10
    """Steps whose mean loss, gradient norm and speed make one point of the curves."""
    max_failures: int = 3
    """Lost workers after which the job fails; each time training goes on from the last checkpoint. Preempted nodes do
    not count."""
    output: str = "build/runs"
    """Folder or s3://bucket/prefix for checkpoints: the best and the last of every training."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field and the fix."""
        at_least = {
            "epochs": 1,
            "gradient_accumulation_steps": 1,
            "num_workers": 1,
            "cpus_per_worker": 1,
            "min_word_count": 1,
            "log_every_n_steps": 1,
        }
        at_least |= dict.fromkeys(("checkpoint_every_n_steps", "batch_size"), 1)
        at_least |= dict.fromkeys(
            (
                "lr_decay_epoch",
                "warmup_steps",
                "hard_negative_warmup_epochs",
                "early_stopping_patience",
                "min_workers",
                "max_failures",
                "seed",
            ),
            0,
        )
        for name, least in at_least.items():
            if getattr(self, name) < least:
                must = f"it must be at least {least}" if least else "it must not be negative"
                raise ValueError(f"train.{name} is {getattr(self, name)}; {must}")
        for name in ("learning_rate", "margin", "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"train.{name} is {getattr(self, name)}; it must be positive")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"train.ema_decay is {self.ema_decay}; it must be at least 0 and below 1")
        if self.min_workers > self.num_workers:
            raise ValueError(
                f"train.min_workers is {self.min_workers}; it must not exceed train.num_workers, {self.num_workers}"
            )
        if self.min_workers and self.data_mode == "stream":
            raise ValueError(
                "train.min_workers is set with train.data_mode=stream, whose batches depend on the number of workers; "
                "leave it at 0, or use train.data_mode=cache"
            )
        if self.batch_size < 2 * self.num_workers:
            raise ValueError(
                f"train.batch_size is {self.batch_size} for {self.num_workers} workers; leave each at least 2 captions"
            )

    def what_is_trained(self) -> dict[str, Any]:
        """The fields that a trained model depends on."""
        # A stream's batches depend on the number of workers.
        placement = set(PLACEMENT) - {"num_workers"} if self.data_mode == "stream" else PLACEMENT
        return {name: value for name, value in asdict(self).items() if name not in placement}
