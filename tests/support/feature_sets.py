"""Small feature sets of random numbers, written by the project's own writers, for tests that need no detector."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from infra.storage.base import Store
from infra.storage.open import open_store
from infra.storage.replacement import Replacement
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.features.account import Account
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import DetectorDescription
from pipelines.features.layout import INDEX, receipt_name, tar_name
from pipelines.features.manifests import write_manifest
from pipelines.features.publish import publish
from pipelines.features.receipt import Receipt, Rejection
from pipelines.features.shard_plan import PlannedShard, plan_shards
from pipelines.features.shards import Sample, commit_shard

REGIONS, FEATURE_DIM, WIDTH, HEIGHT = 3, 8, 60, 40
DETECTOR = DetectorDescription(
    "made-up", {}, FEATURE_DIM, (REGIONS, REGIONS), class_names={1: "person", 2: "dog"}, attribute_names={}
)
SPLITS = ("train", "train", "train", "train", "val", "test")
BROKEN = "p3"
"""The photo of the train split that is rejected."""


def manifest(folder: Path, count: int = 6, said: str = "a photo of") -> Manifest:
    """Returns a manifest of photos p0, p1, ... with two captions each."""
    rows = [
        Photo(f"p{i}", f"p{i}.png", SPLITS[i % 6], (f"{said} {i}", f"number {i} <again>"), f"token{i}")
        for i in range(count)
    ]
    return Manifest.build("tiny", str(folder / "photos"), rows)


def manifest_bytes(photos: Manifest) -> bytes:
    """Returns a manifest as it is stored."""
    file = io.BytesIO()
    photos.write_parquet(file)
    return file.getvalue()


def sample(photo: Photo, seed: int = 0) -> Sample:
    """Returns regions, boxes within WIDTH x HEIGHT, classes and confidences of one photo."""
    rng = np.random.default_rng([seed, int(photo.key[1:])])
    corners = rng.uniform(0, [WIDTH / 2, HEIGHT / 2], (REGIONS, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 20, (REGIONS, 2))], axis=1).astype(np.float32)
    meta = {
        "source": photo.source,
        "captions": list(photo.captions),
        "width": WIDTH,
        "height": HEIGHT,
        "sha256": f"{int(photo.key[1:]):064x}",
        "classes": [1, 2, 1],
        "confidences": [0.9, 0.5, 0.05],
    }
    regions = rng.normal(size=(REGIONS, FEATURE_DIM)).astype(np.float16)
    return Sample(photo.key, regions, boxes, meta, photo.version_token)


def write_set(
    root: Path,
    photos: Manifest,
    change: dict[str, dict[str, Any]] | None = None,
    detector: DetectorDescription = DETECTOR,
    fingerprint: str = "made-up-0123",
) -> FeatureSet:
    """Writes a feature set with shards of two photos. Photo BROKEN is rejected.

    `change` replaces fields of samples by key (`meta` is merged), before anything is written.
    """
    store = open_store(str(root / "set"))
    write_manifest(store, photos)
    accounts = [Account.of(write_shard(store, shard, change or {})) for shard in plan_shards(photos, 2)]
    return publish(Replacement.of(store, INDEX), photos, fingerprint, detector, accounts)


def memorable(root: Path, count: int) -> FeatureSet:
    """Writes a feature set whose validation photos repeat training photos, so that memorizing improves validation."""
    photos = list(manifest(root, count).photos())
    rows = [
        photo if i % 6 < 4 else replace(photos[i - 4], key=photo.key, split=photo.split)
        for i, photo in enumerate(photos)
    ]
    change = {
        photo.key: {"regions_RF": sample(photos[i - 4]).regions_RF} for i, photo in enumerate(photos) if i % 6 >= 4
    }
    return write_set(root, Manifest.build("tiny", str(root / "photos"), rows), change)


def write_shard(store: Store, shard: PlannedShard, change: dict[str, dict[str, Any]]) -> Receipt:
    """Commits one planned shard."""
    samples = [_changed(sample(photo), change.get(photo.key, {})) for photo in shard.photos if photo.key != BROKEN]
    rejected = [Rejection(p.key, p.source, "not an image", p.version_token) for p in shard.photos if p.key == BROKEN]
    return commit_shard(store, shard.name(), samples, rejected, shard.plan_digest)


def write_photos(photos: Manifest, but: Sequence[str] = ()) -> None:
    """Writes the photos, each of one colour, except those named in `but`."""
    folder = Path(photos.root)
    folder.mkdir(parents=True)
    for number, photo in enumerate(photos.photos()):
        if photo.key not in but:
            Image.new("RGB", (WIDTH, HEIGHT), (40 * number % 256, 120, 80)).save(folder / photo.source)


def shard_of(features: FeatureSet, key: str) -> str:
    """Returns the name of the shard that contains a photo."""
    return next(r.shard for r in features.receipts if key in [row.key for row in r.planned])


def tar_of(features: FeatureSet, key: str) -> Path:
    """Returns the path of the tar file that contains a photo."""
    return Path(features.uri) / tar_name(shard_of(features, key))


def receipt_of(features: FeatureSet, key: str) -> Path:
    """Returns the path of the receipt that contains a photo."""
    return Path(features.uri) / receipt_name(shard_of(features, key))


def _changed(made: Sample, fields: dict[str, Any]) -> Sample:
    meta = {k: v for k, v in {**made.meta, **fields.get("meta", {})}.items() if v is not None}
    return replace(made, **{**fields, "meta": meta})
