"""Settings of the `bottom_up` detector. Light to import: drivers plan with it, workers load."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from infra.errors import UserError
from infra.storage.open import open_store
from pipelines.detectors.bottom_up.layout import ATTRIBUTES, CELL_ANCHORS, CLASSES, FEATURES, STRIDE
from pipelines.detectors.contract import REGIONS, fingerprint_of

if TYPE_CHECKING:
    from pipelines.detectors.contract import Detector

_FILES = ("weights", "classes_file", "attributes_file")
"""Fields that are paths or URIs. Where a file lies, and what classes are called, changes no number."""


@dataclass(frozen=True)
class BottomUpConfig:
    """Implements `contract.DetectorSpec`. Every field but the files enters the fingerprint; the weights by their bytes.

    The defaults give the 36 regions of the public SCAN features; `min_boxes=10, max_boxes=100` the adaptive ones.
    """

    name: ClassVar[str] = "bottom_up"
    feature_dim: ClassVar[int] = FEATURES

    weights: str
    """Checkpoint: a path, file:// or s3:// URI. `.safetensors`, or else a state dict written by torch.save."""
    min_boxes: int = REGIONS
    """Fewest regions a photo: the best ones, where fewer reach `keep_score`."""
    max_boxes: int = REGIONS
    """Most regions a photo."""
    keep_score: float = 0.2
    """Regions whose best surviving class score is at least this are kept, within the two numbers above."""
    box_rule: Literal["proposals", "regressed"] = "proposals"
    """`proposals`: boxes are the unregressed proposals, as in the original pipeline and the public features.
    `regressed`: boxes are refined by the deltas (over 10, 10, 5, 5) of their most likely class and clipped, before
    suppression. Features are those of the proposals in both."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the convolutions. Scores, boxes and the features returned are float32 in both."""
    shortest_side: int = 600
    """Pixels of the resized photo's shortest side."""
    longest_side: int = 1000
    """Pixels of its longest side at most; a long photo gets a shortest side below the one above."""
    rpn_candidates: int = 6000
    """Anchors that the proposal network hands on to suppression, the best by score."""
    rpn_nms_iou: float = 0.7
    """Proposals that overlap a better one by more are passed over."""
    proposals: int = 300
    """Most proposals a photo; time grows with them."""
    class_nms_iou: float = 0.3
    """Within a class, regions that overlap a better one by more do not count."""
    revision: int = 1
    """Raise by 1 when code changes the numbers beyond float noise while no field does."""
    classes_file: str | None = None
    """Path or URI of the 1600 class names, one a line (of synonyms after a comma, the first counts)."""
    attributes_file: str | None = None
    """Path or URI of the 400 attribute names, one a line likewise."""

    def __post_init__(self) -> None:
        """Makes paths absolute, for workers start elsewhere. Raises ValueError naming the field and the fix."""
        for name in _FILES:
            if name == "weights" or getattr(self, name) is not None:
                object.__setattr__(self, name, _absolute(name, getattr(self, name)))
        if not 1 <= self.min_boxes <= self.max_boxes <= self.proposals <= self.rpn_candidates:
            raise ValueError(
                f"min_boxes, max_boxes, proposals, rpn_candidates are {self.min_boxes}, {self.max_boxes}, "
                f"{self.proposals}, {self.rpn_candidates}; they must rise, from 1 on"
            )
        if not STRIDE <= self.shortest_side <= self.longest_side:
            raise ValueError(
                f"shortest_side and longest_side are {self.shortest_side} and {self.longest_side}; "
                f"they must rise, from {STRIDE} on"
            )
        # However narrow a photo is, one of its sides has at least shortest_side / 16 cells of 12 anchors.
        if self.min_boxes > self.shortest_side // STRIDE * CELL_ANCHORS:
            raise ValueError(
                f"min_boxes is {self.min_boxes}; raise shortest_side, {self.shortest_side} is too few cells"
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
        """Fewest and most regions a photo."""
        return self.min_boxes, self.max_boxes

    @cached_property
    def class_names(self) -> Mapping[int, str]:
        """Name of each of the 1600 class ids; UserError if `classes_file` does not have so many."""
        return _names("class", self.classes_file, CLASSES)

    @cached_property
    def attribute_names(self) -> Mapping[int, str]:
        """Name of each of the 400 attribute ids; UserError if `attributes_file` does not have so many."""
        return _names("attribute", self.attributes_file, ATTRIBUTES)

    @cached_property
    def weights_sha256(self) -> str:
        """Of the weight file, read once; it travels with a pickled spec, and `read_weights` holds the file to it."""
        return hashlib.sha256(_read(self.weights)).hexdigest()

    def read_weights(self) -> bytes:
        """The weight file; UserError if it is missing, or not the one that this spec has hashed before."""
        data = _read(self.weights)
        found = hashlib.sha256(data).hexdigest()
        if self.__dict__.setdefault("weights_sha256", found) != found:
            raise UserError(
                f"{self.weights} has sha256 {found}, but {self.weights_sha256} when this extraction was planned: "
                "restore the file, or start again"
            )
        return data

    def fingerprint(self) -> str:
        """Hash of name, weights and settings; reads the weights the first time. UserError if they are missing."""
        settings = {name: value for name, value in asdict(self).items() if name not in _FILES}
        return fingerprint_of(self.name, {"weights": self.weights_sha256}, settings)

    def build(self, device: str) -> Detector:
        """Load it: 262 MB of weights, twice that while they are read."""
        from pipelines.detectors.bottom_up.detector import BottomUp

        return BottomUp(self, device)


def _absolute(field: str, uri: str) -> str:
    """The path or URI of a file, absolute; ValueError unless it names one."""
    if not isinstance(uri, str):
        raise ValueError(f"{field} is {uri!r}; give the path or URI of a file")  # noqa: TRY004 - settings come as JSON
    scheme, separator, rest = uri.partition("://")
    if not separator:
        path = Path(uri).expanduser().absolute()
        if not uri or not path.name:
            raise ValueError(f"{field} is {uri!r}; give the path or URI of a file")
        return str(path)
    root, slash, name = rest.rpartition("/")
    if not name or not slash or (not root and scheme != "file"):
        raise ValueError(f"{field} is {uri!r}; give the URI of a file, such as {scheme}://bucket/vg.pth")
    return uri


def _read(uri: str) -> bytes:
    root, _, name = uri.rpartition("/")
    try:
        return open_store(root if root and not root.endswith("/") else f"{root}/").read(name)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise UserError(
            f"{uri} cannot be read ({error.strerror or 'no such file'}); give the file's path or URI"
        ) from error


def _names(kind: str, uri: str | None, count: int) -> Mapping[int, str]:
    if uri is None:
        return {id_: f"{kind} {id_}" for id_ in range(count)}
    lines = _read(uri).decode("utf-8-sig").strip().splitlines()
    if len(lines) != count:
        raise UserError(f"{uri} has {len(lines)} lines; the {kind} names of these weights are {count}, one a line")
    return {id_: line.partition(",")[0].strip() for id_, line in enumerate(lines)}
