"""How large the benchmarks of `make bench` are: the paper's sizes, and a smoke form that only shows that they run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Numbers of photos, captions and rounds, and widths of the network; defaults are those of `make bench`."""

    joint_dim: int = 1024
    """D."""
    regions: int = 36
    """R."""
    feature_dim: int = 2048
    """F."""
    words: int = 8000
    """Vocabulary."""

    rounds: int = 3
    """Timed calls of each function; the least time counts."""

    stored_photos: int = 1500
    """Photos of the feature set that training reads, with five captions each (0.2 GB)."""
    batch_size: int = 128
    """Captions of a training batch."""

    detected_photos: int = 512
    """Photos of an extraction that is timed."""
    photos_per_shard: int = 32
    written_shards: int = 24
    """Shards that are written and read against plain files."""
    few_photos: int = 200
    many_photos: int = 2000
    """Photos of two extractions whose peak memory is compared."""

    planned_photos: tuple[int, ...] = (10_000, 100_000, 1_000_000, 12_000_000)
    """Photos of extractions that are planned, rerun and listed without photos."""
    rejected_photos: int = 500_000
    """Rejected photos whose accounts and report are held."""
    streamed_photos: int = 100_000
    """Photos of an extraction with a detector that does nothing."""

    imported_photos: int = 1024
    """Photos of the precomputed features that are imported."""

    scored_photos: int = 128
    scored_captions: int = 260
    """Block that the alignments score."""
    reference_captions: int = 8
    """Captions of the slow peers, which are timed on fewer pairs."""
    given_photos: int = 1000
    given_captions: int = 100
    """Photos and captions of which a registered model is given every pair as a row."""
    copied_floats: int = 64 << 20
    """Floats of the memory copy that gives the bandwidth."""
    split_fraction: float = 0.04
    """Fraction of Flickr30K's pairs that is scored; of COCO's 5K split a twentieth of that."""


FULL = Sizes()

SMOKE = Sizes(
    joint_dim=64,
    regions=4,
    feature_dim=32,
    words=50,
    rounds=1,
    stored_photos=40,
    batch_size=8,
    detected_photos=8,
    photos_per_shard=2,
    written_shards=2,
    few_photos=4,
    many_photos=8,
    planned_photos=(2_000,),
    rejected_photos=2_000,
    streamed_photos=80,
    imported_photos=8,
    scored_photos=8,
    scored_captions=14,
    reference_captions=2,
    given_photos=4,
    given_captions=3,
    copied_floats=1 << 10,
    split_fraction=4e-6,
)
