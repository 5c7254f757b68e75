"""Configuration of a training."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_origin

from infra.paths import absolute, local_path

OPERATIONAL_FIELDS = (
    "num_workers",
    "min_workers",
    "cpus_per_worker",
    "use_gpu",
    "max_failures",
    "checkpoint_every_n_steps",
    "log_every_n_steps",
    "profile_steps",
    "output",
)
"""Fields that affect where and how reliably a training runs, but not its result.

`--resume` may change them, except `output`, which locates the run directory."""

_AT_LEAST_1 = (
    "epochs",
    "batch_size",
    "gradient_accumulation_steps",
    "num_workers",
    "cpus_per_worker",
    "min_word_count",
    "checkpoint_every_n_steps",
    "log_every_n_steps",
)
_NOT_NEGATIVE = (
    "min_workers",
    "lr_decay_epoch",
    "warmup_steps",
    "hard_negative_warmup_epochs",
    "early_stopping_patience",
    "max_failures",
    "profile_steps",
    "seed",
)
_LARGEST = 1e30
"""Largest real number of a field. torch raises for float32 numbers from 3e38 on, also for ten times a learning rate."""


@dataclass(frozen=True)
class TrainConfig:
    """Optimization, data loading and checkpoints. Defaults are the paper's where it states them."""

    epochs: int = 30
    """Passes over all captions of the train split."""
    batch_size: int = 128
    """Captions per batch over all workers; negatives are found within a batch (not stated in the paper)."""
    gradient_accumulation_steps: int = 1
    """Batches whose gradients are averaged in one optimizer step. Negatives are still found within each batch."""
    data_mode: Literal["cache", "stream"] = "cache"
    """`cache` reads shards from each node's disk (`cache.folder`) and shuffles exactly, independent of the number of
    workers. `stream` is for sets larger than that disk: it shuffles shards, and captions within a window."""
    allow_same_photo: bool = False
    """Allow two captions of one photo in a batch. They are never negatives of each other."""
    num_workers: int = 2
    """Data-parallel training processes (torch DDP). They share every batch."""
    min_workers: int = 0
    """Minimum number of workers for elastic training; 0 disables elasticity."""
    cpus_per_worker: int = 1
    """Logical CPUs of a worker, and the number of threads that torch uses in it."""
    use_gpu: bool = False
    """Give each worker one GPU."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` runs the encoders under autocast and multiplies the widest products of the alignment in bfloat16."""
    learning_rate: float = 2e-4
    """Peak learning rate of Adam (not stated in the paper)."""
    text_encoder_learning_rate: float = 0.0
    """Peak learning rate of the pretrained weights of `model.text_encoder=hf`, usually a tenth of `learning_rate`. 0
    for the same. Schedule and warm-up apply to both."""
    text_encoder_layer_decay: float = 1.0
    """Factor of the learning rate from each layer of the pretrained text encoder to the layer below it, at most 1. Its
    embeddings are below the lowest layer."""
    freeze_text_encoder: bool = False
    """Keep the pretrained weights of `model.text_encoder=hf` as they are, without dropout, and train only the
    projection of its hidden states. Each worker encodes a training caption once and keeps up to 4 GiB of states."""
    lr_schedule: Literal["step", "cosine", "constant"] = "step"
    """`step` divides the learning rate by 10 at `lr_decay_epoch`; `cosine` decays it to 0 at the last step."""
    lr_decay_epoch: int = 15
    """Epochs before the `step` schedule divides the learning rate by 10, once (not stated in the paper)."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from 0."""
    margin: float = 0.2
    """Margin of the ranking loss, m of Eq. 17."""
    hard_negative_warmup_epochs: int = 1
    """Epochs on the mean of all violations before the loss takes only the hardest negatives. From scratch, hardest
    negatives can lead to equal scores of all pairs. An epoch that starts with those is another epoch of the warm-up.
    0 disables it, as in the preset `paper`. At most `epochs`, which trains without hardest negatives."""
    max_grad_norm: float = 2.0
    """Gradients are clipped to this global norm (not stated in the paper)."""
    ema_decay: float = 0.0
    """Decay per step of an exponential moving average of the weights, which is then validated and registered. 0
    disables it."""
    word_dropout: float = 0.0
    """Probability that a word is left out of a training caption, which keeps at least one. Each epoch draws again.
    The remaining words are in lower case, without punctuation, and a frozen text encoder encodes them in every step."""
    early_stopping_patience: int = 0
    """Epochs without a better validation rSum after which training stops. 0 disables early stopping."""
    min_word_count: int = 1
    """Words that occur less often in the training captions become `<unk>`."""
    word_vectors: str = ""
    """File of pretrained word vectors, the fixed half of the word embedding (Eq. 2): GloVe or word2vec text, or .npz
    with `words` and `vectors`. Empty for none."""
    seed: int = 0
    """Seed of the initial weights and of the order of the batches."""
    checkpoint_every_n_steps: int = 500
    """Steps between checkpoints, in addition to the one after each epoch. A restart repeats at most this many steps."""
    log_every_n_steps: int = 10
    """Steps between logged metrics; loss and gradient norm are means over these steps."""
    profile_steps: int = 0
    """Steps that torch's profiler records on the first worker, after 5 steps of warm-up. The run gets the trace and the
    ten most expensive operators as artifacts. 0 disables it."""
    max_failures: int = 3
    """Failures of workers after which training stops; each earlier one resumes from the last checkpoint. Preemptions do
    not count."""
    output: str = "build/runs"
    """Folder or s3://bucket/prefix of run directories, which hold the best and the last checkpoint of each training."""

    def __post_init__(self) -> None:
        """Makes paths absolute. Raises ValueError or UserError naming the field, its value and the constraint."""
        object.__setattr__(self, "output", absolute(self.output, "train.output"))
        if self.word_vectors:
            object.__setattr__(self, "word_vectors", str(local_path(self.word_vectors, "train.word_vectors")))
        for field in fields(self):
            if get_origin(field.type) is Literal and getattr(self, field.name) not in get_args(field.type):
                choices = ", ".join(get_args(field.type))
                raise ValueError(f"train.{field.name} is {getattr(self, field.name)!r}; choose one of: {choices}")
        for name in _AT_LEAST_1:
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} is {getattr(self, name)}; it must be at least 1")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ValueError(f"train.{name} is {getattr(self, name)}; it must not be negative")
        if self.seed >= 2**63:
            raise ValueError(f"train.seed is {self.seed}; it must be below 2^63, as torch requires")
        for name in ("learning_rate", "margin", "max_grad_norm"):
            if not 0 < getattr(self, name) <= _LARGEST:
                raise ValueError(f"train.{name} is {getattr(self, name)}; it must be positive and at most {_LARGEST:g}")
        if not 0 <= self.text_encoder_learning_rate <= _LARGEST:
            raise ValueError(
                f"train.text_encoder_learning_rate is {self.text_encoder_learning_rate}; it must be positive and at "
                f"most {_LARGEST:g}, or 0 for train.learning_rate"
            )
        if not 0 < self.text_encoder_layer_decay <= 1:
            raise ValueError(
                f"train.text_encoder_layer_decay is {self.text_encoder_layer_decay}; it must be above 0 and at most 1"
            )
        for name in ("ema_decay", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"train.{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if self.hard_negative_warmup_epochs > self.epochs:
            raise ValueError(
                f"train.hard_negative_warmup_epochs is {self.hard_negative_warmup_epochs}; it must not exceed "
                f"train.epochs, {self.epochs}"
            )
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
                f"train.batch_size is {self.batch_size} for {self.num_workers} workers; give each at least 2"
            )

    def result_fields(self) -> dict[str, Any]:
        """Returns the fields that affect the trained model, by name."""
        # The batches of a stream depend on the number of workers.
        excluded = set(OPERATIONAL_FIELDS) - {"num_workers"} if self.data_mode == "stream" else OPERATIONAL_FIELDS
        return {name: value for name, value in asdict(self).items() if name not in excluded}
