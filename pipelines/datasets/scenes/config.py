"""Configuration of the rendered scenes: sizes of the splits, fraction of minimal pairs, seed."""

from dataclasses import asdict, dataclass

VERSION = 1
"""Raise when the same settings give other scenes, words or pixels: existing folders are then not reused."""
MAX_SCENES = 99_999
"""Largest size of a split; file names number its scenes with five digits."""


@dataclass(frozen=True)
class ScenesConfig:
    """Settings of the rendered scenes; equal settings give equal bytes."""

    train: int = 400
    """Number of training scenes. With 400 scenes, each pair of colour and shape occurs in about 20 pictures."""

    val: int = 100
    """Number of validation scenes, which select the best epoch. They do not depend on `train`."""

    test: int = 100
    """Number of test scenes. With 100 scenes, random ranking gives an R@1 of one percent."""

    seed: int = 0
    """Seed of all random draws, at least 0."""

    minimal_pairs: float = 0.5
    """Fraction of the scenes of each split, between 0 and 1, that belong to minimal pairs: two different pictures whose
    captions consist of the same words."""

    def __post_init__(self) -> None:
        for name in ("train", "val", "test"):
            size = getattr(self, name)
            if not 2 <= size <= MAX_SCENES:
                raise ValueError(f"scenes.{name} is {size}; it must be between 2 (one pair) and {MAX_SCENES}")
        if self.seed < 0:
            raise ValueError(f"scenes.seed is {self.seed}; it must be an integer of at least 0")
        if not 0 <= self.minimal_pairs <= 1:
            raise ValueError(f"scenes.minimal_pairs is {self.minimal_pairs}; it must be a fraction between 0 and 1")

    def as_json(self) -> dict[str, int | float]:
        """Returns the settings and the version as they are recorded in the generated files."""
        return {**asdict(self), "minimal_pairs": float(self.minimal_pairs), "version": VERSION}
