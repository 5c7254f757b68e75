"""Build of a search index of many photos by `jobs.index`: time, photos per second and space.

    python -m tests.benchmarks.index_build --photos 20000 [--output build/index-benchmark]

The feature set is written first, which is not timed: photos of REGIONS random regions of FEATURE_DIM, few, so that
encoding and writing count, not reading. The model is an untrained SHAN of D 256.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from tqdm import tqdm

from infra.storage.open import open_store
from infra.storage.replacement import Replacement
from pipelines.datasets.manifest import Photo
from pipelines.features.account import Account
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import DetectorDescription
from pipelines.features.layout import INDEX
from pipelines.features.manifests import write_manifest
from pipelines.features.publish import publish
from pipelines.features.shard_plan import plan_shards
from pipelines.features.shards import Sample, commit_shard
from pipelines.reports.tables import Table
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.benchmarks import commands, measure
from tests.benchmarks.scale import PHOTOS_PER_SHARD, made_up_manifest
from tests.support.small_models import write_checkpoint

REGIONS, FEATURE_DIM, WIDTH = 36, 64, 256
DETECTOR = DetectorDescription("made-up", {}, FEATURE_DIM, (REGIONS, REGIONS), {}, {})
HEADER = [
    "photos",
    "vectors",
    "seconds",
    "photos/s",
    "peak memory, GiB",
    "size, GB",
    "plain writing of the same bytes, s",
]


def write_features(folder: Path, photos: int) -> FeatureSet:
    """Writes a feature set of random regions."""
    store, manifest = open_store(str(folder / "set")), made_up_manifest(photos)
    rng = np.random.default_rng(0)
    write_manifest(store, manifest)
    accounts = []
    for shard in tqdm(list(plan_shards(manifest, PHOTOS_PER_SHARD)), desc="write shards"):
        samples = [_sample(photo, rng) for photo in shard.photos]
        accounts.append(Account.of(commit_shard(store, shard.name(), samples, [], shard.plan_digest)))
    return publish(Replacement.of(store, INDEX), manifest, "made-up-0123", DETECTOR, accounts)


def _sample(photo: Photo, rng: np.random.Generator) -> Sample:
    regions_RF = rng.standard_normal((REGIONS, FEATURE_DIM), np.float32).astype(np.float16)
    boxes_R4 = np.tile(np.float32([0, 0, 640, 480]), (REGIONS, 1))
    found = {"classes": [0] * REGIONS, "confidences": [0.5] * REGIONS, "width": 640, "height": 480}
    described = {"source": photo.source, "captions": list(photo.captions), "sha256": f"{int(photo.key):064x}"}
    return Sample(photo.key, regions_RF, boxes_R4, {**described, **found})


def plain_writing(folder: Path, size: int) -> float:
    """Returns the seconds of writing that many bytes to the same disk."""
    block, start = bytes(2**24), time.perf_counter()
    with (folder / "plain").open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
        file.flush()
    found = time.perf_counter() - start
    (folder / "plain").unlink()
    return found


def measure_build(folder: Path, photos: int, vector_type: str) -> list[str]:
    """Builds the index of a feature set in a folder. Returns the row of the table."""
    features = FeatureSet.open(str(folder / "set")) if (folder / "set").exists() else write_features(folder, photos)
    torch.manual_seed(0)
    config = ModelConfig(region_dim=FEATURE_DIM, joint_dim=WIDTH, word_dim=8)
    model = write_checkpoint(folder / "model", SHAN(config, Vocabulary.build(["a caption"])), features)
    options = [f"--model={model}", f"--features={features.uri}", f"--index.output={folder}/indexes"]
    options += ["--index.galleries=photos", f"--index.vector_type={vector_type}", "--cluster.local_cpus=3"]
    started = time.perf_counter()
    peak_gib = measure.tree_peak_gib(lambda: commands.run_command(folder, "jobs.index", *options))
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in (folder / "indexes").rglob("*") if path.is_file())
    row = [f"{photos:,}", vector_type, f"{seconds:.0f}", f"{photos / seconds:.0f}", f"{peak_gib:.1f}"]
    return [*row, f"{size / 1e9:.1f}", f"{plain_writing(folder, size):.0f}"]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--vector-type", choices=["float16", "int8"], default="float16")
    parser.add_argument(
        "--output", type=Path, help="keeps the feature set and the index here; default: nothing is kept"
    )
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = (arguments.output or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        print(Table("", HEADER, [measure_build(folder, arguments.photos, arguments.vector_type)]).markdown())


if __name__ == "__main__":
    main()
