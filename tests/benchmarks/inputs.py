"""Random inputs at the sizes of the paper's evaluation: captions of 8 to 20 words, unit vectors, photos, features."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from infra.storage.open import open_store
from infra.storage.replacement import Replacement
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.features.account import Account
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import INDEX
from pipelines.features.manifests import write_manifest
from pipelines.features.publish import publish
from pipelines.features.shard_plan import plan_shards
from pipelines.features.shards import Sample, commit_shard
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.benchmarks.sizes import FULL, Sizes
from tests.support.feature_sets import DETECTOR

WIDTH, HEIGHT = 640, 480
"""Pixels of a photo."""


def encoded(photos: int, captions: int, sizes: Sizes = FULL) -> tuple[Tensor, list[Tensor]]:
    """Random encodings: regions B x R x D of unit vectors, and C matrices W_c x D with W from 8 to 20 (mean 14)."""
    draw = torch.Generator().manual_seed(0)
    regions_BRD = normalize(torch.randn(photos, sizes.regions, sizes.joint_dim, generator=draw), dim=-1)
    lengths = [8 + n % 13 for n in range(captions)]
    return regions_BRD, [normalize(torch.randn(n, sizes.joint_dim, generator=draw), dim=-1) for n in lengths]


def sentences(count: int, words: int = FULL.words) -> list[str]:
    """Sentences of 8 to 20 tokens, `<start>` and `<end>` included."""
    draw = torch.Generator().manual_seed(1)
    return [
        " ".join(f"w{int(n)}" for n in torch.randint(0, words, (6 + k % 13,), generator=draw)) for k in range(count)
    ]


def network(sizes: Sizes = FULL, **fields: object) -> SHAN:
    """SHAN with random weights; `fields` are further fields of `ModelConfig`."""
    torch.manual_seed(0)
    config = ModelConfig(joint_dim=sizes.joint_dim, region_dim=sizes.feature_dim, **fields)  # type: ignore[arg-type]
    return SHAN(config, Vocabulary.build(f"w{n}" for n in range(sizes.words)))


def noise_photos(count: int) -> Iterator[np.ndarray]:
    """RGB uint8 photos of 640 x 480 smooth noise, all different."""
    draw = np.random.default_rng(0)
    for _ in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        yield np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def feature_set(folder: Path, photos: Mapping[str, int], photos_per_shard: int, sizes: Sizes = FULL) -> FeatureSet:
    """A feature set of random regions (R x F, the same for every photo) with five captions a photo.

    `photos` gives the number of photos of each split.
    """
    sentence = iter(sentences(5 * sum(photos.values()), sizes.words))
    rows = [
        Photo(f"p{number}", f"p{number}.png", split, tuple(next(sentence) for _ in range(5)))
        for number, split in enumerate(split for split, count in photos.items() for _ in range(count))
    ]
    manifest, store = Manifest.build("benchmark", str(folder), rows), open_store(str(folder / "set"))
    write_manifest(store, manifest)
    shards = plan_shards(manifest, photos_per_shard)
    accounts = [Account.of(commit_shard(store, shard.name(), samples(shard.photos, sizes), [])) for shard in shards]
    detector = replace(DETECTOR, feature_dim=sizes.feature_dim, region_range=(sizes.regions, sizes.regions))
    return publish(Replacement.of(store, INDEX), manifest, "benchmark-0", detector, accounts)


def samples(photos: Sequence[Photo], sizes: Sizes = FULL) -> list[Sample]:
    """Stored samples of photos: all with the same random regions R x F and boxes."""
    draw, count = np.random.default_rng(0), sizes.regions
    regions_RF = draw.normal(size=(count, sizes.feature_dim)).astype(np.float16)
    boxes_R4 = np.tile(np.array([0, 0, WIDTH / 2, HEIGHT / 2], np.float32), (count, 1))
    meta = {"width": WIDTH, "height": HEIGHT, "classes": [1] * count, "confidences": [0.5] * count, "sha256": "0" * 64}
    return [
        Sample(p.key, regions_RF, boxes_R4, {**meta, "source": p.source, "captions": list(p.captions)}, p.version_token)
        for p in photos
    ]
