"""Builds a small feature set in today's format: `python -m tests.support.stored_feature_set FOLDER`.

tests/fixtures/0.2/feature_set was written by it. Later versions must read that copy, so it is never replaced.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from infra.storage.open import open_store
from infra.storage.replacement import Replacement
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.extraction.detect import Detect
from pipelines.extraction.operators import Commit, Fetch, part_row
from pipelines.features.account import Account
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import DetectorDescription
from pipelines.features.layout import INDEX
from pipelines.features.manifests import write_manifest
from pipelines.features.publish import publish
from pipelines.features.receipt import Receipt
from pipelines.features.shard_plan import PlannedPart, plan_shards
from tests.support import ROOT
from tests.support.tiny_detector import TinyDetector

FIXTURE = ROOT / "tests" / "fixtures" / "0.2" / "feature_set"
CORRUPT = "p2"
"""The photo that is not an image."""
PHOTOS = [
    Photo(f"p{n}", f"p{n}.png", split, (f"caption {n}", f"Übung {n}"), f"token{n}")
    for n, split in enumerate(("train", "train", "train", "val", "test"))
]
DETECTOR = TinyDetector()


def pixels(photo: Photo) -> np.ndarray:
    """Returns a photo's RGB pixels, 12 x 20, different for every photo."""
    y, x = np.mgrid[:12, :20]
    seed = int(photo.key[1:])
    return np.stack([x * 12, y * 20, np.full_like(x, 50 * seed)], axis=2).astype(np.uint8)


def write_feature_set(folder: Path) -> FeatureSet:
    """Extracts the photos with the tiny detector, two photos per shard, without Ray."""
    store = open_store(str(folder))
    manifest = Manifest.build("tiny", "photos", PHOTOS)
    write_manifest(store, manifest)
    accounts = []
    with TemporaryDirectory() as photos:
        for photo in PHOTOS:
            Image.fromarray(pixels(photo)).save(Path(photos, photo.source))
        Path(photos, f"{CORRUPT}.png").write_text("not an image")
        fetch, detect, commit = Fetch(photos, store), Detect(DETECTOR, "cpu", 2, store), Commit(store)
        for shard in plan_shards(manifest, 2):
            part = PlannedPart(shard.name(), shard.photos)
            row = commit(detect(fetch(part_row(part.name, part, {}))))
            accounts.append(Account.of(Receipt.from_json(row["receipt"])))
    description = DetectorDescription(
        "tests.support.tiny_detector:TinyDetector",
        {},
        DETECTOR.feature_dim,
        DETECTOR.region_range,
        DETECTOR.class_names,
        {},
    )
    return publish(Replacement.of(store, INDEX), manifest, DETECTOR.fingerprint(), description, accounts)


if __name__ == "__main__":
    write_feature_set(Path(sys.argv[1]))
