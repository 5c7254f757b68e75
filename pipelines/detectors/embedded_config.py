"""Settings and pinned weights of the `embedded` detector. Light to import: drivers take the fingerprint from here."""

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
    """Implements `contract.DetectorSpec`. Everything beside the weights that changes the numbers is a field here, and
    enters the fingerprint.
    """

    name: ClassVar[str] = "embedded"
    feature_parts: ClassVar[tuple[int, ...]] = (1280, 192, 576)
    """Channels of the parts of a feature, in order: EfficientNet-Lite2 head, SSD stride 8, SSD stride 16."""
    feature_dim: ClassVar[int] = 2048
    region_range: ClassVar[tuple[int, int]] = (REGIONS, REGIONS)
    class_names: ClassVar[Mapping[int, str]] = COCO_NAMES

    revision: int = 1
    """Raise by 1 when code changes the numbers beyond float noise while no field below does."""
    lite2_side: int = 416
    """Pixels of the square EfficientNet-Lite2 sees (Pillow bilinear, aspect not kept). A multiple of its stride 32:
    13 x 13 cells, so that a box a quarter of the photo wide still covers three. Its native 260 gives 9 x 9 in less
    than half the time of this part; take it where speed matters more than small regions."""
    lite2_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """RGB in [0, 1], from the README of efficientnet-lite-pytorch."""
    lite2_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """RGB in [0, 1], from the README of efficientnet-lite-pytorch."""
    nms_iou: float = 0.7
    """Boxes that overlap a better one by more are passed over, whatever their class."""
    min_box_side: float = 1.0
    """Pixels of the original photo; thinner boxes (anchors that leave the photo) are widened to it."""
    pool_samples: int = 7
    """Bilinear samples a side over which a map is averaged within a box."""

    def fingerprint(self) -> str:
        """Hash of name, weight files and all fields; needs neither torch nor the files."""
        weights = {SSDLITE_FILE: SSDLITE_SHA256, LITE2_FILE: LITE2_SHA256}
        return fingerprint_of(self.name, weights, {**asdict(self), "regions": REGIONS, "parts": self.feature_parts})

    def build(self, device: str) -> Detector:
        """Load it: 34 MB, both weight files verified."""
        from pipelines.detectors.embedded import Embedded

        return Embedded(self, device)
