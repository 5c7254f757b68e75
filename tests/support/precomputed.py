"""Files in the formats of precomputed features, written independently of the importers, and readers of results."""

import base64
import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from infra.storage.open import open_store
from pipelines.features.feature_set import FeatureSet

SCAN_NAMES = {"train": "train", "val": "dev", "test": "test"}


def scan_folder(folder: Path, counts: dict[str, int], regions: int = 3, width: int = 8, seed: int = 0) -> Path:
    """A folder in SCAN's format with ids; every value is one that float16 holds."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    for split, count in counts.items():
        rows = draw.standard_normal((count, regions, width)).astype(np.float16).astype(np.float32)
        np.save(folder / f"{split}_ims.npy", rows)
        (folder / f"{split}_caps.txt").write_text(
            "".join(f"{split} {n // 5} say {n % 5} é\n" for n in range(count * 5))
        )
        (folder / f"{split}_ids.txt").write_text("".join(f"{split}{n}.jpg\n" for n in range(count)))
    return folder


def floats(values: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def integers(values: Sequence[int]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}q", *values)).decode()


class Photo:
    """One photo of a TSV: what its row is made of."""

    def __init__(self, image_id: str, regions: int = 36, width: int = 8, seed: int = 0) -> None:
        draw = np.random.default_rng([seed, *image_id.encode()])
        self.image_id, self.regions = image_id, regions
        self.features = draw.standard_normal((regions, width)).astype(np.float16).astype(np.float32)
        corner = draw.uniform(0, 200, (regions, 2))
        self.boxes = np.concatenate([corner, corner + draw.uniform(1, 200, (regions, 2))], 1).astype(np.float32)
        self.ids = draw.integers(0, 1600, (2, regions))
        self.confidences = draw.uniform(size=(2, regions)).astype(np.float32)

    def six(self, **changed: object) -> str:
        row = {
            "image_id": self.image_id,
            "image_w": 640,
            "image_h": 480,
            "num_boxes": self.regions,
            "boxes": floats(self.boxes.ravel().tolist()),
            "features": floats(self.features.ravel().tolist()),
        }
        return "\t".join(map(str, (row | changed).values())) + "\n"

    def ten(self, **changed: object) -> str:
        row = {
            "img_id": self.image_id,
            "img_h": 480,
            "img_w": 640,
            "objects_id": integers(self.ids[0].tolist()),
            "objects_conf": floats(self.confidences[0].tolist()),
            "attrs_id": integers(self.ids[1].tolist()),
            "attrs_conf": floats(self.confidences[1].tolist()),
            "num_boxes": self.regions,
            "boxes": floats(self.boxes.ravel().tolist()),
            "features": floats(self.features.ravel().tolist()),
        }
        return "\t".join(map(str, (row | changed).values())) + "\n"


def karpathy_file(path: Path, photos: dict[str, str], name: str = "tiny") -> Path:
    """A Karpathy JSON of file name to split, five captions a photo."""
    images = [
        {"filename": file, "split": split, "sentences": [{"raw": f"{file} {n}"} for n in range(5)]}
        for file, split in photos.items()
    ]
    path.write_text(json.dumps({"dataset": name, "images": images}))
    return path


def state(features: FeatureSet) -> dict[str, tuple[bytes, str]]:
    """Bytes and time of change of every object of a feature set."""
    store = open_store(features.uri)
    return {name: (store.read(name), info.version_token) for name, info in store.objects().items()}


def contents(features: FeatureSet) -> dict[str, bytes]:
    return {name: data for name, (data, _) in state(features).items()}
