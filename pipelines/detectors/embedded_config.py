"""Settings and fingerprint of the `embedded` detector. Light to import: drivers plan with it, workers load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar

from pipelines.detectors.coco import COCO_NAMES
from pipelines.detectors.contract import REGIONS, fingerprint_of
from pipelines.detectors.weight_files import LITE2_FILE, LITE2_SHA256, SSDLITE_FILE, SSDLITE_SHA256

if TYPE_CHECKING:
    from pipelines.detectors.contract import Detector


@dataclass(frozen=True)
class EmbeddedConfig:
    """Implements `contract.DetectorSpec`. Fingerprint: the weights and all fields, which determine the results."""

    name: ClassVar[str] = "embedded"
    feature_parts: ClassVar[tuple[int, ...]] = (1280, 192, 576)
    """Channels of the parts of a feature: EfficientNet-Lite2 head, SSD stride 8, SSD stride 16."""
    feature_dim: ClassVar[int] = 2048
    region_range: ClassVar[tuple[int, int]] = (REGIONS, REGIONS)
    class_names: ClassVar[Mapping[int, str]] = COCO_NAMES
    weights_licence: ClassVar[str] = "Apache-2.0 (SSDLite-MobileNetV2 and EfficientNet-Lite2)"

    revision: int = 1
    """Revision of the code. It is raised by 1 when code changes results beyond rounding error and no field does."""
    lite2_side: int = 416
    """Side in pixels of the square input of EfficientNet-Lite2 (Pillow bilinear, aspect ratio not kept).

    416 gives 13 x 13 cells, so that a box a quarter as wide as the photo covers three. The network's native 260 gives
    9 x 9 cells in less than half the time; use it if speed matters more than small regions.
    """
    lite2_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean of the input per RGB channel, in [0, 1] (README of efficientnet-lite-pytorch)."""
    lite2_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Standard deviation of the input per RGB channel, in [0, 1] (README of efficientnet-lite-pytorch)."""
    nms_iou: float = 0.7
    """Intersection over union above which a box is suppressed by a better one, whatever their classes."""
    min_box_side: float = 1.0
    """Minimum side of a box in pixels of the original photo; thinner boxes at its edge are widened to it."""
    pool_samples: int = 7
    """Number of bilinear samples along each side of a box over which a map is averaged."""

    def fingerprint(self) -> str:
        """Returns the hash of name, weight files and all fields; needs neither torch nor the files."""
        weights = {SSDLITE_FILE: SSDLITE_SHA256, LITE2_FILE: LITE2_SHA256}
        return fingerprint_of(self.name, weights, {**asdict(self), "regions": REGIONS, "parts": self.feature_parts})

    def build(self, device: str) -> Detector:
        """Loads the detector: 34 MB, with both weight files verified."""
        from pipelines.detectors.embedded import Embedded

        return Embedded(self, device)
