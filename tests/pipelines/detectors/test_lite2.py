"""Tests of the folded EfficientNet-Lite2 against the package's model."""

from __future__ import annotations

import pytest
import torch

from infra.errors import UserError
from pipelines.detectors.lite2 import Lite2, load_package_model
from pipelines.detectors.weight_files import LITE2_SHA256

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("side", [260, 416])  # odd and even sides inside: 65 and 33, or 104 and 52
def test_folding_is_exact_up_to_rounding_error(side):
    package = load_package_model(side, LITE2_SHA256)
    photo = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = package.extract_features(photo)
        found = Lite2(package, side)(photo)
    assert found.shape == (1, 1280, -(-side // 32), -(-side // 32))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    assert expected.max() > 1  # the comparison is not between zeros


def test_a_weight_file_with_another_hash_is_refused():
    with pytest.raises(UserError, match="sha256"):
        load_package_model(416, "0" * 64)
