"""Tests of reading the checkpoint: its shapes, supported formats, and refused files."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch

from infra.errors import UserError
from pipelines.detectors.bottom_up.checkpoint import check_keys, load_tensors, read_checkpoint
from pipelines.detectors.bottom_up.checkpoint_keys import checkpoint_shapes

STEM = "backbone.stem.conv1.weight"


def tensors_of(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def saved(state: object) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def test_the_layout_is_that_of_the_public_checkpoint():
    shapes = checkpoint_shapes()
    counters = [name for name in shapes if name.endswith("num_batches_tracked")]
    assert (len(shapes), len(counters)) == (640, 104)
    trained = [shape for name, shape in shapes.items() if name not in counters and "running" not in name]
    assert round(sum(int(np.prod(shape)) for shape in trained) / 1e6, 2) == 65.44
    expected = {
        STEM: (64, 3, 7, 7),
        "backbone.res2.0.shortcut.weight": (256, 64, 1, 1),
        "backbone.res3.3.conv2.norm.running_var": (128,),
        "backbone.res4.22.conv3.weight": (1024, 256, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": (12, 4),
        "proposal_generator.rpn_head.conv.weight": (512, 1024, 3, 3),
        "proposal_generator.rpn_head.anchor_deltas.bias": (48,),
        "roi_heads.res5.0.conv1.weight": (512, 1024, 1, 1),
        "roi_heads.res5.2.conv3.norm.num_batches_tracked": (),
        "roi_heads.box_predictor.cls_score.weight": (1601, 2048),
        "roi_heads.box_predictor.bbox_pred.weight": (6400, 2048),
        "roi_heads.box_predictor.cls_embedding.weight": (1601, 256),
        "roi_heads.box_predictor.fc_attr.weight": (512, 2304),
        "roi_heads.box_predictor.attr_score.weight": (401, 512),
    }
    assert {name: shapes[name] for name in expected} == expected
    assert not any("conv" in name and name.endswith("conv1.bias") for name in shapes if "rpn" not in name)


def test_the_complete_layout_passes_with_and_without_counters():
    tensors = tensors_of(checkpoint_shapes())
    check_keys(tensors, "vg.pth")
    check_keys({n: t for n, t in tensors.items() if not n.endswith("num_batches_tracked")}, "vg.pth")


def test_the_error_counts_and_names_the_differences_in_one_line():
    shapes = checkpoint_shapes()
    tensors = tensors_of({n: shape for n, shape in shapes.items() if "attr" not in n and ".res2.0.conv1" not in n})
    tensors |= tensors_of({"optimizer.step": (1,), STEM: (64, 4, 7, 7)})
    with pytest.raises(UserError) as caught:
        check_keys(tensors, "s3://models/vg.pth")
    report = str(caught.value)
    assert "\n" not in report
    assert report.startswith("s3://models/vg.pth: ")
    assert "9 missing (backbone.res2.0.conv1.weight, " in report
    assert ", ...)" in report
    assert "1 unexpected (optimizer.step)" in report
    assert f"1 wrong shapes ({STEM} (64, 4, 7, 7) for (64, 3, 7, 7))" in report


STATE = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("vg.pth", saved(STATE)),
        ("vg.pkl", saved({"model": STATE, "iteration": 3})),
        ("vg.safetensors", safetensors.torch.save(STATE)),
    ],
)
def test_the_supported_formats_are_read(name, data):
    tensors = load_tensors(data, name)
    assert tensors.keys() == STATE.keys()
    for key, tensor in tensors.items():
        assert torch.equal(tensor, STATE[key])


class Runs:
    """A pickle that would run code."""

    def __reduce__(self):
        return print, ("code of the file runs",)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("vg.pth", b""),
        ("vg.pth", b"no checkpoint at all"),
        ("vg.pth", saved(STATE)[:-300]),
        ("vg.pth", saved({"a": Runs()})),
        ("vg.pkl", pickle.dumps({"model": {"a": np.ones(3)}}, protocol=2)),
        ("vg.pth", saved([1, 2])),
        ("vg.pth", saved({"a": "words"})),
        ("vg.safetensors", b"no checkpoint at all"),
        ("vg.safetensors", safetensors.torch.save(STATE)[:-5]),
        ("vg.pth", saved(STATE)),
    ],
)
def test_unrecognised_files_are_rejected_without_running_code(name, data, capsys):
    with pytest.raises(UserError) as caught:
        read_checkpoint(data, name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    assert not capsys.readouterr().out
