"""Floating-point operations of SHAN-full, and the most that a GPU can do: model FLOP utilisation (MFU).

Only matrix products count, a multiplication and an addition as two. The counts follow the batched implementation
(`shan_model/batched_alignment.py`), not the reference equations; softmax, sigmoid and norms are left out.
`tests/pipelines/training/test_flop.py` compares them with torch's counter.
"""

from collections.abc import Sequence

from shan_model.config import ModelConfig

PEAKS = {
    "B200": (2250e12, 75e12),
    "GH200": (989e12, 67e12),
    "H200": (989e12, 67e12),
    "H100 PCIe": (756e12, 51e12),
    "H100 NVL": (835e12, 60e12),
    "H100": (989e12, 67e12),
    "A100": (312e12, 19.5e12),
    "A10G": (70e12, 31e12),
    "A10": (125e12, 31e12),
    "L40S": (362e12, 91.6e12),
    "L40": (181e12, 90.5e12),
    "L4": (121e12, 30.3e12),
    "RTX 6000 Ada": (364e12, 91.1e12),
    "RTX 4090": (165e12, 82.6e12),
    "RTX 3090": (71e12, 35.6e12),
}
"""FLOP/s of dense bf16 products on the tensor cores, and of float32 without TF32, by a part of the card's name (the
first that fits counts). Source: NVIDIA's data sheets, without sparsity."""


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


def is_counted(config: ModelConfig) -> bool:
    """Returns whether `training_step` counts the steps of a model: SHAN-full with the paper's text encoder."""
    is_full = config.variant == "full" and config.levels == "l2l+g2l+g2g" and not config.gate_per_level
    return config.matcher == "shan" and is_full and config.text_encoder == "gru" and config.gru_layers == 1


def peak(card: str, bf16: bool) -> float | None:
    """Returns the peak FLOP/s of a card by its name, in bfloat16 or float32; None for one that is not in the table."""
    found = next((peaks for part, peaks in PEAKS.items() if part in card), None)
    return None if found is None else found[0 if bf16 else 1]


def utilisation(
    config: ModelConfig, regions: int, words: Sequence[int], batches_per_s: float, ranks: int, peak: float
) -> float:
    """Returns the MFU of each of `ranks` GPUs, given the words of one rank's batch. The ranks score their union."""
    union = training_step(config, regions, [length for length in words for _ in range(ranks)])
    return union / ranks * batches_per_s / peak
