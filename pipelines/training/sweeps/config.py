"""Configuration of a sweep."""

from dataclasses import dataclass

MAX_TRIALS = 10_000
"""All trials are drawn and held before the first one starts."""


@dataclass(frozen=True)
class SweepConfig:
    """Number of trials, and how ASHA stops the weaker ones early."""

    num_trials: int = 8
    """Samples of the search space; with grids, samples per point of the grids. Duplicate samples become one trial."""
    grace_period_epochs: int = 2
    """Epochs that every trial is trained before ASHA may stop it."""
    reduction_factor: int = 3
    """ASHA's eta: of the trials that reach a milestone, the best `1 / reduction_factor` continue to the next one, at
    `reduction_factor` times as many epochs."""
    seed: int = 0
    """Seed of the samples."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field, its value and the constraint."""
        for name, least in (("num_trials", 1), ("grace_period_epochs", 1), ("reduction_factor", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"sweep.{name} is {getattr(self, name)}; it must be at least {least}")
        if self.num_trials > MAX_TRIALS:
            raise ValueError(f"sweep.num_trials is {self.num_trials}; it must be at most {MAX_TRIALS}")
