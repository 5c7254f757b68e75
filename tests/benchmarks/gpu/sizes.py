"""How large the GPU benchmarks are: the paper's sizes, and tiny ones for the tests on a CPU."""

from dataclasses import dataclass

from tests.benchmarks.sizes import Sizes


@dataclass(frozen=True)
class GpuSizes(Sizes):
    """Numbers of photos, captions and steps, and the detector's settings."""

    batch_sizes: tuple[int, ...] = (128, 256, 512)
    """Captions of the timed training steps."""
    split: tuple[int, int] = (1000, 5000)
    """Photos and captions that are scored with each other: Flickr30K's test split."""
    loading_steps: int = 100
    """Training steps that read their batches from shards."""
    embedded_photos: int = 256
    bottom_up_photos: int = 16
    shortest_side: int = 600
    longest_side: int = 1000
    proposals: int = 300
    min_boxes: int = 36
    """Settings of `bottom_up`; the defaults are its own."""
    product_side: int = 8192
    """Side of the square matrices whose product gives the measured peak."""
    ray_photos: int = 1500
    """Photos of the training through Ray Train: 58 steps of 128 captions."""


FULL = GpuSizes()

TINY = GpuSizes(
    joint_dim=32,
    regions=4,
    feature_dim=16,
    words=50,
    rounds=1,
    stored_photos=16,
    batch_sizes=(6, 8),
    batch_size=8,
    split=(5, 9),
    loading_steps=4,
    embedded_photos=2,
    bottom_up_photos=1,
    shortest_side=48,
    longest_side=80,
    proposals=8,
    min_boxes=4,
    product_side=64,
    ray_photos=16,
)
