"""Settings and fingerprint of the `bottom_up` detector. Light to import: drivers plan with it, workers load."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from infra.errors import UserError
from infra.paths import absolute
from infra.storage.open import open_store
from pipelines.detectors.bottom_up.checkpoint_keys import ATTRIBUTES, CELL_ANCHORS, CLASSES, FEATURES, STRIDE
from pipelines.detectors.contract import REGIONS, fingerprint_of

if TYPE_CHECKING:
    from pipelines.detectors.contract import Detector

_FILES = ("weights", "classes_file", "attributes_file")
"""Fields that are paths or URIs. They do not enter the fingerprint: locations and names affect no result."""


@dataclass(frozen=True)
class BottomUpConfig:
    """Implements `contract.DetectorSpec`. Fingerprint: all fields except the files, and the content of the weights.

    The defaults give 36 regions per photo, like the public SCAN features; `min_boxes=10, max_boxes=100` gives an
    adaptive number.
    """

    name: ClassVar[str] = "bottom_up"
    files: ClassVar[tuple[str, ...]] = _FILES
    feature_dim: ClassVar[int] = FEATURES

    weights: str
    """Checkpoint, as a path or a file:// or s3:// URI: `.safetensors`, or a state dict written by torch.save."""
    min_boxes: int = REGIONS
    """Minimum number of regions per photo; the best ones are kept even if fewer reach `keep_score`."""
    max_boxes: int = REGIONS
    """Maximum number of regions per photo."""
    keep_score: float = 0.2
    """Minimum best class score after suppression, 0 to 1, of a kept region (within min_boxes and max_boxes)."""
    box_rule: Literal["proposals", "regressed"] = "proposals"
    """Boxes that are used for suppression and returned; features are those of the proposals in both cases.

    `proposals` are the unregressed proposals, as in the original pipeline and the public features. `regressed` are
    refined by the deltas (divided by 10, 10, 5, 5) of their most likely class, and clipped.
    """
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the convolutions. Scores, boxes and the returned features are float32 in both cases."""
    shortest_side: int = 600
    """Shortest side of the resized photo in pixels."""
    longest_side: int = 1000
    """Maximum of the longest side of the resized photo in pixels; it takes precedence over `shortest_side`."""
    rpn_candidates: int = 6000
    """Number of best-scoring anchors of the region proposal network that enter suppression."""
    rpn_nms_iou: float = 0.7
    """Intersection over union above which a proposal is suppressed by a better one."""
    proposals: int = 300
    """Maximum number of proposals per photo; the run time grows with it."""
    class_nms_iou: float = 0.3
    """Intersection over union above which a region is suppressed by a better one of the same class."""
    revision: int = 1
    """Revision of the code. It is raised by 1 when code changes results beyond rounding error and no field does."""
    classes_file: str | None = None
    """Path or URI of the 1600 class names, one per line; of comma-separated synonyms, the first is used."""
    attributes_file: str | None = None
    """Path or URI of the 400 attribute names, in the same format."""

    def __post_init__(self) -> None:
        """Makes paths absolute, because workers run elsewhere.

        Raises ValueError or UserError naming the field and the fix.
        """
        for name in _FILES:
            if name == "weights" or getattr(self, name) is not None:
                object.__setattr__(self, name, _absolute(name, getattr(self, name)))
        if not 1 <= self.min_boxes <= self.max_boxes <= self.proposals <= self.rpn_candidates:
            raise ValueError(
                f"min_boxes, max_boxes, proposals, rpn_candidates are {self.min_boxes}, {self.max_boxes}, "
                f"{self.proposals}, {self.rpn_candidates}; they must be at least 1 and in ascending order"
            )
        if not STRIDE <= self.shortest_side <= self.longest_side:
            raise ValueError(
                f"shortest_side and longest_side are {self.shortest_side} and {self.longest_side}; "
                f"they must be at least {STRIDE} and in ascending order"
            )
        # Even in the narrowest photo, one side has at least shortest_side / 16 cells of 12 anchors.
        if self.min_boxes > self.shortest_side // STRIDE * CELL_ANCHORS:
            raise ValueError(
                f"min_boxes is {self.min_boxes}, too many for shortest_side {self.shortest_side}; raise shortest_side"
            )
        for name in ("keep_score", "rpn_nms_iou", "class_nms_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1]")
        if self.box_rule not in ("proposals", "regressed"):
            raise ValueError(f"box_rule is {self.box_rule!r}; it must be proposals or regressed")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision is {self.precision!r}; it must be fp32 or bf16")

    @property
    def region_range(self) -> tuple[int, int]:
        """Returns the minimum and maximum number of regions per photo."""
        return self.min_boxes, self.max_boxes

    @cached_property
    def class_names(self) -> Mapping[int, str]:
        """Returns the name of each class id; raises UserError unless `classes_file` has 1600 lines."""
        return _names("class", self.classes_file, CLASSES)

    @cached_property
    def attribute_names(self) -> Mapping[int, str]:
        """Returns the name of each attribute id; raises UserError unless `attributes_file` has 400 lines."""
        return _names("attribute", self.attributes_file, ATTRIBUTES)

    @cached_property
    def weights_sha256(self) -> str:
        """Returns the hash of the weight file, read once. It is pickled with the spec and checked by `read_weights`."""
        return hashlib.sha256(_read(self.weights)).hexdigest()

    def read_weights(self) -> bytes:
        """Returns the weight file; raises UserError if it is missing or has changed since this spec hashed it."""
        data = _read(self.weights)
        found = hashlib.sha256(data).hexdigest()
        if self.__dict__.setdefault("weights_sha256", found) != found:
            raise UserError(
                f"{self.weights} has sha256 {found}, but had {self.weights_sha256} when this extraction was planned; "
                "restore the file, or restart the extraction"
            )
        return data

    def fingerprint(self) -> str:
        """Returns the hash of name, weights and settings; the first call reads the weights (UserError if missing)."""
        settings = {name: value for name, value in asdict(self).items() if name not in _FILES}
        return fingerprint_of(self.name, {"weights": self.weights_sha256}, settings)

    def build(self, device: str) -> Detector:
        """Loads the detector: 262 MB of weights, twice that during loading."""
        from pipelines.detectors.bottom_up.detector import BottomUp

        return BottomUp(self, device)


def _absolute(field: str, uri: str) -> str:
    """Returns the absolute path or the URI of a file.

    Raises ValueError or UserError if the value does not name a file.
    """
    if not isinstance(uri, str):
        raise ValueError(f"{field} is {uri!r}; give the path or URI of a file")  # noqa: TRY004 - settings come as JSON
    location = absolute(uri, f"extract.detector_settings: {field}")
    scheme, _, rest = location.rpartition("://")
    root, _, name = rest.rpartition("/")
    if not name or (scheme and not root):
        raise ValueError(f"{field} is {uri!r}; give the path or URI of a file, such as s3://bucket/vg.pth")
    return location


def _read(uri: str) -> bytes:
    root, _, name = uri.rpartition("/")
    try:
        return open_store(root if root and not root.endswith("/") else f"{root}/").read(name)
    except FileNotFoundError as error:
        raise UserError(
            f"{uri} cannot be read ({error.strerror or 'no such file'}); give the file's path or URI"
        ) from error


def _names(kind: str, uri: str | None, count: int) -> Mapping[int, str]:
    if uri is None:
        return {id_: f"{kind} {id_}" for id_ in range(count)}
    try:
        lines = _read(uri).decode("utf-8-sig").strip().splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{uri} is not UTF-8 text ({error.reason}); save the {kind} names as UTF-8") from error
    if len(lines) != count:
        raise UserError(f"{uri} has {len(lines)} lines; it must have {count} {kind} names, one per line")
    return {id_: line.partition(",")[0].strip() for id_, line in enumerate(lines)}
