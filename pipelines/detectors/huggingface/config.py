"""Settings and fingerprints of the detectors `huggingface` and `huggingface_patches`. Drivers plan with them.

Loads no weights, but reads the model's config with `transformers`, and the weights' bytes for their hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from infra.errors import UserError
from pipelines.detectors.contract import REGIONS, fingerprint_of
from pipelines.detectors.huggingface.model_files import (
    fetch_model,
    file_names,
    pinned_model,
    require_transformers,
    sha256_of,
)

if TYPE_CHECKING:
    from pipelines.detectors.contract import Detector


@dataclass(frozen=True)
class PretrainedConfig:
    """What both specs share. Fingerprint: all fields except `model`, and the content of the model's files."""

    name: ClassVar[str]
    files: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    """Folder with config.json, preprocessor_config.json and model.safetensors, or hub name with a revision, such as
    `PekingU/rtdetr_r50vd@main`. Each node fetches the files of a hub name once, into the cache that HF_HOME or
    HF_HUB_CACHE names."""

    def __post_init__(self) -> None:
        """Makes a folder absolute, because workers run elsewhere, and replaces a revision by its commit.

        Raises UserError for anything else than a folder or a model of the hub.
        """
        object.__setattr__(self, "model", pinned_model(self.model))

    @cached_property
    def sha256s(self) -> Mapping[str, str]:
        """Hashes of the model's files by name, read once. They are pickled with the spec, and workers verify them."""
        return {path.name: sha256_of(path) for path in self.folders["model"]}

    @cached_property
    def network(self) -> Any:
        """The model's config, a `transformers.PreTrainedConfig`. Raises UserError if it cannot be used."""
        folder = fetch_model(self.model)
        file_names(folder, self.model)
        try:
            return require_transformers().AutoConfig.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
        except Exception as error:  # the library raises anything for a config that it does not know
            raise self.unusable(error) from error

    @property
    def folders(self) -> Mapping[str, Sequence[Path]]:
        """The files to store for each setting that is a folder."""
        folder = fetch_model(self.model)
        return {"model": [folder / name for name in file_names(folder, self.model)]}

    def verified_folder(self) -> Path:
        """Returns the folder of the model on this node, fetched if necessary.

        Raises UserError if a file is missing or has changed since this spec hashed it.
        """
        planned = self.sha256s  # a worker's come from the driver
        folder = fetch_model(self.model)
        for name in file_names(folder, self.model):
            if sha256_of(folder / name) != planned.get(name):
                raise UserError(
                    f"model {self.model}: {name} is not the file that this extraction was planned with; restore it, "
                    "give all nodes the same files, or restart the extraction"
                )
        return folder

    def fingerprint(self) -> str:
        """Returns the hash of name, files and settings; the first call reads the weights."""
        settings = {name: value for name, value in asdict(self).items() if name not in self.files}
        return fingerprint_of(self.name, self.sha256s, settings)

    def unusable(self, reason: Exception | str) -> UserError:
        """Returns the error of a model that cannot be used, in one line."""
        text = " ".join(str(reason).split())[:300]
        return UserError(f"model {self.model} cannot be used by the detector {self.name} ({text}); give another model")


@dataclass(frozen=True)
class QueriesConfig(PretrainedConfig):
    """Implements `contract.DetectorSpec` for object detection models that have a hidden state per query."""

    name: ClassVar[str] = "huggingface"

    min_boxes: int = REGIONS
    """Minimum number of regions per photo; the best suppressed queries follow if fewer survive."""
    max_boxes: int = REGIONS
    """Maximum number of regions per photo."""
    keep_score: float = 0.2
    """Minimum score, 0 to 1, of a kept region (within min_boxes and max_boxes)."""
    nms_iou: float = 0.7
    """Intersection over union above which a box is suppressed by a better one, whatever their classes."""
    backbone_map: bool = False
    """Append the last map of the convolutional backbone, averaged over the box, to the query's hidden state."""
    revision: int = 1
    """Revision of the code. It is raised by 1 when code changes results beyond rounding error and no field does."""

    def __post_init__(self) -> None:
        """Raises ValueError or UserError naming the field and the fix."""
        super().__post_init__()
        if not 1 <= self.min_boxes <= self.max_boxes:
            raise ValueError(
                f"min_boxes and max_boxes are {self.min_boxes} and {self.max_boxes}; they must be at least 1 and in "
                "ascending order"
            )
        for name in ("keep_score", "nms_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1]")

    @cached_property
    def feature_dim(self) -> int:
        """Returns the width of a hidden state, plus the channels of the map; those need the network without weights.

        Raises UserError for a model without them.
        """
        width = getattr(self.network, "hidden_size", None)
        if not isinstance(width, int):
            raise self.unusable(f"its config, of a {self.network.model_type}, has no hidden_size")
        if not self.backbone_map:
            return width
        from pipelines.detectors.huggingface.loading import backbone_channels

        return width + backbone_channels(self)

    @property
    def region_range(self) -> tuple[int, int]:
        """Returns the minimum and maximum number of regions per photo."""
        return self.min_boxes, self.max_boxes

    @cached_property
    def class_names(self) -> Mapping[int, str]:
        """Returns the model's labels."""
        return {int(id_): str(label) for id_, label in self.network.id2label.items()}

    def build(self, device: str) -> Detector:
        """Loads the detector."""
        from pipelines.detectors.huggingface.queries import QueryDetector

        return QueryDetector(self, device)


@dataclass(frozen=True)
class PatchesConfig(PretrainedConfig):
    """Implements `contract.DetectorSpec` for vision backbones: a grid of cells, each the mean of its patches."""

    name: ClassVar[str] = "huggingface_patches"
    class_names: ClassVar[Mapping[int, str]] = {0: "patch"}

    grid: int = 6
    """Cells along each side of the photo; it has the square of this number of regions."""
    revision: int = 1
    """Revision of the code. It is raised by 1 when code changes results beyond rounding error and no field does."""

    def __post_init__(self) -> None:
        """Raises ValueError or UserError naming the field and the fix."""
        super().__post_init__()
        if self.grid < 1:
            raise ValueError(f"grid is {self.grid}; it must be at least 1")

    @property
    def vision(self) -> Any:
        """The config of the vision model; that of a model of images and texts has a part for each."""
        return getattr(self.network, "vision_config", self.network)

    @cached_property
    def feature_dim(self) -> int:
        """Returns the width of a patch token, or the channels of a convolutional network's last map.

        Raises UserError for a model that states neither.
        """
        widths = getattr(self.vision, "hidden_sizes", None)
        width = widths[-1] if widths else getattr(self.vision, "hidden_size", None)
        if not isinstance(width, int):
            raise self.unusable(f"its config, of a {self.network.model_type}, has no hidden_size")
        return width

    @property
    def region_range(self) -> tuple[int, int]:
        """Returns the number of cells twice, since it is fixed."""
        return self.grid**2, self.grid**2

    def build(self, device: str) -> Detector:
        """Loads the detector."""
        from pipelines.detectors.huggingface.patches import PatchDetector

        return PatchDetector(self, device)
