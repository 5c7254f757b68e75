"""Parity of SSDLite with outputs recorded from the original graph and runtime (scripts/convert_ssdlite.py).

Two runs were recorded. `shipped` used the fp16-rounded weights, so that only rounding errors of the arithmetic differ.
`original` used the original fp32 weights and measures the effect of fp16.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from pipelines.detectors import boxes, conv, ssdlite, weight_files
from pipelines.detectors.ssdlite import SSDLite, preprocess

pytestmark = pytest.mark.usefixtures("one_thread")

WEIGHTS = Path(ssdlite.__file__).parent / "weights" / weight_files.SSDLITE_FILE
# Largest measured differences: 2e-5, 5e-5, 4e-7, 5e-6, 5e-6, 3e-7. Each mistake below exceeds a tolerance 10 times.
NOISE = {"encodings": 2e-4, "logits": 4e-4, "boxes": 5e-6, "stride8": 5e-5, "stride16": 5e-5, "input": 2e-6}
# Largest measured differences: 0.069, 0.158, 0.0020, 0.020, 0.017.
FP16 = {"encodings": 0.1, "logits": 0.25, "boxes": 0.004, "stride8": 0.03, "stride16": 0.03, "input": 2e-6}


def reference_photo(height: int = 260, width: int = 410) -> np.ndarray:
    """Returns the photo of scripts/convert_ssdlite.py."""
    y, x, c = np.ogrid[:height, :width, :3]
    ramps = (3 * x + 5 * y + 40 * c + ((x * y) >> 7)) & 255
    disc = (x - 150) ** 2 + (y - 120) ** 2 < 80**2
    return np.where(disc, 220 - 60 * c + ((x + y) & 31), ramps).astype(np.uint8)


@pytest.fixture(scope="module")
def tensors():
    return safetensors.torch.load(WEIGHTS.read_bytes())


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).with_name("ssdlite_reference.npz"), allow_pickle=False) as file:
        return dict(file)


def differences(tensors, reference, run: str, photo_13HW: torch.Tensor | None = None) -> dict[str, float]:
    """Returns the largest absolute difference from the recorded run, by output."""
    index = torch.from_numpy(reference["anchor_index"]).long()
    net = SSDLite(tensors)
    x = preprocess(reference_photo())[None].permute(0, 3, 1, 2) if photo_13HW is None else photo_13HW
    with torch.inference_mode():
        out = net(x)
        decoded = boxes.decode_boxes(out.encodings_BA4, net.anchors_A4)[0, :, [1, 0, 3, 2]]  # recorded as y0 x0 y1 x1
    outputs = {
        "input": x[0].permute(1, 2, 0)[::23, ::23],
        "encodings": out.encodings_BA4[0, index],
        "logits": out.logits_BAC[0, index],
        "boxes": decoded[index],
        "stride8": out.stride8_BCHW[0].permute(1, 2, 0)[1::6, 1::6, ::8],
        "stride16": out.stride16_BCHW[0].permute(1, 2, 0)[::3, ::3, ::24],
    }
    for key, values in outputs.items():
        assert values.shape == reference[f"{run}/{key}"].shape
    return {key: float(np.abs(v.numpy() - reference[f"{run}/{key}"]).max()) for key, v in outputs.items()}


def exceeding(found: dict[str, float], allowed: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in found.items() if value > allowed[key]}


def test_the_photo_is_the_recorded_one(reference):
    assert hashlib.sha256(reference_photo().tobytes()).hexdigest() == str(reference["photo_sha256"])


def test_outputs_equal_the_original_graph_up_to_rounding_error(tensors, reference):
    assert exceeding(differences(tensors, reference, "shipped"), NOISE) == {}


def test_fp16_weights_stay_within_the_documented_error(tensors, reference):
    assert exceeding(differences(tensors, reference, "original"), FP16) == {}


class TestSensitivity:
    """Each likely mistake must exceed a tolerance at least 10 times, so that the parity tests would detect it."""

    def detected(self, tensors, reference, photo=None) -> set[str]:
        strict = {key: 10 * value for key, value in NOISE.items()}
        return set(exceeding(differences(tensors, reference, "shipped", photo), strict))

    def test_padding_before_instead_of_after(self, tensors, reference, monkeypatch):
        # (1, 1) instead of (0, 1): what nn.Conv2d(padding=1) does at stride 2
        monkeypatch.setattr(conv, "same_padding", lambda side, kernel, stride: (kernel // 2, kernel // 2))
        assert self.detected(tensors, reference) >= {"encodings", "logits", "stride8", "stride16"}

    def test_another_epsilon(self, tensors, reference, monkeypatch):
        monkeypatch.setattr(ssdlite, "_HEAD_NORM_EPS", 1e-5)
        assert {"encodings", "logits"} <= self.detected(tensors, reference)

    def test_another_anchor_order(self, tensors, reference):
        swapped = tensors | {"anchors": tensors["anchors"][:, [1, 0, 3, 2]].contiguous()}
        assert self.detected(swapped, reference) == {"boxes"}
        shifted = tensors | {"anchors": tensors["anchors"].roll(1, dims=0)}
        assert self.detected(shifted, reference) == {"boxes"}

    def test_anchors_in_half_precision(self, tensors, reference):
        halved = tensors | {"anchors": tensors["anchors"].half()}
        assert self.detected(halved, reference) == {"boxes"}

    def test_another_resize(self, tensors, reference):
        photo = torch.from_numpy(reference_photo()).permute(2, 0, 1)[None].float()
        half_pixel = torch.nn.functional.interpolate(photo, (300, 300), mode="bilinear", align_corners=False)
        assert "input" in self.detected(tensors, reference, half_pixel * 2 / 255 - 1)

    def test_colours_swapped(self, tensors, reference):
        bgr = preprocess(reference_photo()[..., ::-1])[None].permute(0, 3, 1, 2)
        assert {"input", "logits"} <= self.detected(tensors, reference, bgr)


def test_a_photo_of_300_pixels_is_only_rescaled_in_value():
    photo = reference_photo(300, 300)
    np.testing.assert_allclose(preprocess(photo).numpy(), photo.astype(np.float64) * 2 / 255 - 1, atol=1e-6)
