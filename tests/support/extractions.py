"""Small extractions: a few photos, two in each shard, and what an extraction leaves in a folder."""

import dataclasses
from pathlib import Path

import skimage.data
from PIL import Image

from infra.cluster import ClusterConfig
from pipelines.datasets.locate_photos import locate_photos
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.run import Extraction, extract
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import REPORT

TINY = "tests.support.tiny_detector:TinyDetector"
PHOTOS = {"chelsea": "train", "coffee": "train", "astronaut": "val", "rocket": "test"}


def save(name: str, path: Path) -> None:
    """Saves one of scikit-image's photos at 160 x 120 pixels."""
    Image.fromarray(getattr(skimage.data, name)()).resize((160, 120)).save(path)


def write_photos(folder: Path) -> Path:
    """Writes four real photos, a truncated one and a text file, and returns the folder."""
    folder.mkdir()
    for name in PHOTOS:
        save(name, folder / f"{name}.jpg")
    whole = (folder / "chelsea.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no photo")
    return folder


def manifest_of(folder: Path, more: dict[str, str] | None = None, **captions: str) -> Manifest:
    rows = [
        Photo(name, f"{name}.jpg", split, (captions.get(name, f"a {name}"), f"{name}!"))
        for name, split in (PHOTOS | (more or {})).items()
    ]
    rows += [Photo("cut", "cut.jpg", "train", ("cut",)), Photo("text", "text.jpg", "test", ("text",))]
    return locate_photos("tiny", folder, rows)


def config(tmp_path: Path) -> ExtractConfig:
    return ExtractConfig(
        output=str(tmp_path / "features"),
        detector=TINY,
        photos_per_shard=2,
        detector_batch_size=2,
        max_rejected=1,
        min_detector_actors=1,
    )


def run(manifest: Manifest, tmp_path: Path, **changes: object) -> tuple[Extraction, list[int]]:
    """Runs an extraction. Returns it and the counts by which its progress bar advanced."""
    counted: list[int] = []
    settings = dataclasses.replace(config(tmp_path), **changes)
    return extract(manifest, settings, ClusterConfig(), counted.append), counted


def contents(folder: Path | str) -> dict[str, bytes]:
    """Every object but the report of the speed, which differs between runs."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != REPORT}


def tars(extraction: Extraction) -> dict[str, bytes]:
    """The tars to which the index refers."""
    folder = Path(extraction.feature_set.uri)
    return {shard.name: (folder / f"{shard.name}.tar").read_bytes() for shard in extraction.feature_set.index.shards}


def shard(features: FeatureSet, start: str) -> str:
    (name,) = [shard.name for shard in features.index.shards if shard.name.startswith(start)]
    return name
