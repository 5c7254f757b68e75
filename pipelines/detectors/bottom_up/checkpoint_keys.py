"""Names and shapes of the 640 tensors of the public checkpoint (`GeneralizedRCNN`). Light to import."""

from __future__ import annotations

CLASSES = 1600
"""Object classes of Visual Genome; the classifier's column 1600 is background."""
ATTRIBUTES = 400
"""Attributes of Visual Genome; the attribute classifier's column 400 is "none"."""
CELL_ANCHORS = 12
"""Anchors per cell of the map: sizes {64, 128, 256, 512} x ratios {0.5, 1, 2}."""
STRIDE = 16
"""Pixels of the resized photo per cell of the backbone's map, along each side."""
FEATURES = 2048
"""Width of a region feature."""
COUNTERS = ".num_batches_tracked"
"""Suffix of the 104 optional keys: counters of batch-norm training, which are not used."""

_LAYERS = (("backbone.res2", 3, 64), ("backbone.res3", 4, 128), ("backbone.res4", 23, 256), ("roi_heads.res5", 3, 512))
"""Name, number of blocks and inner channels of each layer; the output of a block has four times as many channels."""


def checkpoint_shapes() -> dict[str, tuple[int, ...]]:
    """Returns the shape of every tensor of the checkpoint by key, including the counters."""
    shapes = _conv_and_norm("backbone.stem.conv1", 64, 3, 7)
    inputs = 64
    for layer, blocks, width in _LAYERS:
        for i in range(blocks):
            block = f"{layer}.{i}"
            if i == 0:
                shapes |= _conv_and_norm(f"{block}.shortcut", 4 * width, inputs, 1)
            shapes |= _conv_and_norm(f"{block}.conv1", width, inputs, 1)
            shapes |= _conv_and_norm(f"{block}.conv2", width, width, 3)
            shapes |= _conv_and_norm(f"{block}.conv3", 4 * width, width, 1)
            inputs = 4 * width
    return shapes | _proposal_generator() | _box_predictor()


def _conv_and_norm(name: str, outputs: int, inputs: int, kernel: int) -> dict[str, tuple[int, ...]]:
    norm = {f"{name}.norm.{part}": (outputs,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {f"{name}.weight": (outputs, inputs, kernel, kernel), **norm, f"{name}.norm{COUNTERS}": ()}


def _with_bias(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _proposal_generator() -> dict[str, tuple[int, ...]]:
    head = "proposal_generator.rpn_head"
    return {
        "proposal_generator.anchor_generator.cell_anchors.0": (CELL_ANCHORS, 4),
        **_with_bias(f"{head}.conv", 512, 1024, 3, 3),
        **_with_bias(f"{head}.objectness_logits", CELL_ANCHORS, 512, 1, 1),
        **_with_bias(f"{head}.anchor_deltas", 4 * CELL_ANCHORS, 512, 1, 1),
    }


def _box_predictor() -> dict[str, tuple[int, ...]]:
    name = "roi_heads.box_predictor"
    return {
        **_with_bias(f"{name}.cls_score", CLASSES + 1, FEATURES),
        **_with_bias(f"{name}.bbox_pred", 4 * CLASSES, FEATURES),
        f"{name}.cls_embedding.weight": (CLASSES + 1, 256),
        **_with_bias(f"{name}.fc_attr", 512, FEATURES + 256),
        **_with_bias(f"{name}.attr_score", ATTRIBUTES + 1, 512),
    }
