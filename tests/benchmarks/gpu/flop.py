"""Floating-point operations of SHAN-full: matrix products only, a multiplication and an addition count as two.

The counts follow the batched implementation (`shan_model/batched_alignment.py`), not the reference equations; softmax,
sigmoid and norms are left out. `tests/benchmarks/test_gpu.py` compares them with torch's counter.
"""

from collections.abc import Sequence

from shan_model.config import ModelConfig


def encoders(config: ModelConfig, regions: int, words: int) -> float:
    """Forward pass over that many regions (of all photos) and words (of all captions)."""
    image = 2 * regions * config.region_dim * config.joint_dim
    gates = 2 * 3 * config.joint_dim * (config.word_dim + config.joint_dim)  # of a GRU, per word and direction
    return float(image + 2 * words * gates)


def preparation(config: ModelConfig, items: int, vectors: int) -> float:
    """Returns the FLOP that `items` items of `vectors` vectors need once: key, two gate products, Gram matrix."""
    D = config.joint_dim
    return float(items * vectors * (3 * 2 * D * D + 2 * vectors * D + 2 * 2 * D))


def pair(config: ModelConfig, regions: int, words: int) -> float:
    """Score of one photo with one caption, given both sides' preparation."""
    D, area = config.joint_dim, regions * words
    products = 2 * 2 * area * D  # affinities and dot products
    attention = 2 * area * (words + regions) + 2 * 2 * area
    gates = 2 * 2 * 2 * area * D  # on each side, gates and values are mixed by the attention
    pooling = 2 * 2 * (regions + words) * D + 2 * 2 * area  # pooling logits and gated sums
    contexts = 3 * 2 * (regions + words) * D  # the mixed part of a context, and its attention over the other side
    return float(products + attention + gates + pooling + contexts)


def all_pairs(config: ModelConfig, photos: int, regions: int, words: Sequence[int]) -> float:
    """Scores of all photos with all captions, preparation included, encoders not. `words`: length of every caption."""
    sides = preparation(config, photos, regions) + sum(preparation(config, 1, length) for length in words)
    return sides + photos * sum(pair(config, regions, length) for length in words)


def training_step(config: ModelConfig, regions: int, words: Sequence[int]) -> float:
    """A step with hardest negatives on a batch of `len(words)` captions and as many photos.

    All pairs are scored once without gradients. The encoders, the preparation and 3 pairs a caption (the positive and
    at most two mined negatives) run forward and backward; a backward pass counts as two forward passes, and what it
    computes again to save memory is not counted.
    """
    size, total = len(words), sum(words)
    encoded = encoders(config, size * regions, total)
    sides = preparation(config, size, regions) + sum(preparation(config, 1, length) for length in words)
    mined = 3 * sum(pair(config, regions, length) for length in words)
    return all_pairs(config, size, regions, words) + 3 * (encoded + sides + mined)
