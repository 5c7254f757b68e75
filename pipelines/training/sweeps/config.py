"""How a sweep draws settings and stops trials."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SweepConfig:
    """How a sweep draws and stops. A trial that is not among the best `1 / reduction_factor` of its age is stopped."""

    num_trials: int = 8
    """Draws of the space; with grids, draws for every point of the grids. Draws that are alike are one trial."""
    grace_period_epochs: int = 2
    """Epochs that every trial gets."""
    reduction_factor: int = 3
    """ASHA's eta: of trials that reach an age, one in so many goes on to `reduction_factor` times that age."""
    seed: int = 0
    """Seeds the draws."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field and the fix."""
        for name, least in (("num_trials", 1), ("grace_period_epochs", 1), ("reduction_factor", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"sweep.{name} is {getattr(self, name)}; it must be at least {least}")
