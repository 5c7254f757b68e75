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
