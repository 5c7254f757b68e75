"""Batches: every caption once, no photo twice, independent of workers, resumable at any step."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from infra.errors import UserError
from pipelines.datasets.manifest import Manifest
from pipelines.features.split import Split
from pipelines.training import streamed_batches
from pipelines.training.batches import Batch, Batches, ShuffledBatches
from pipelines.training.streamed_batches import StreamedBatches
from tests.support import feature_sets

WORLDS = (1, 2, 3)


def made(folder: Path, photos: int, captions: int = 5, ragged: bool = False) -> Split:
    rows = [
        replace(photo, captions=tuple(f"{photo.key} caption {i}" for i in range(1 + int(photo.key[1:]) % captions)))
        for photo in feature_sets.manifest(folder, photos).photos()
    ]
    change = {
        photo.key: {"regions_RF": feature_sets.sample(photo).regions_RF[: 1 + int(photo.key[1:]) % 3]}
        for photo in (rows if ragged else [])
    }
    return feature_sets.write_set(folder, Manifest.build("tiny", str(folder / "photos"), rows), change).split("train")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """132 training photos with one to five captions."""
    return made(tmp_path_factory.mktemp("set"), 198)


def both(split: Split, size: int = 12, allow_same_photo: bool = False) -> list[Batches]:
    return [
        ShuffledBatches(split, size, 7, allow_same_photo),
        StreamedBatches(split, size, 7, allow_same_photo, max(WORLDS)),
    ]


def epoch(batches: Batches, number: int, world: int, first: int = 0) -> list[list[Batch]]:
    """Returns the per-rank batches of each batch."""
    shares = [list(batches.batches(number, first, rank, world)) for rank in range(world)]
    return [list(of_ranks) for of_ranks in zip(*shares, strict=True)]


def captions_of(shares: list[Batch]) -> list[str]:
    return [caption for share in shares for caption in share.captions]


def same(one: Batch, other: Batch) -> bool:
    return (
        one.captions == other.captions
        and np.array_equal(one.photos, other.photos)
        and all(np.array_equal(a, b) for a, b in zip(one.regions, other.regions, strict=True))
    )


@pytest.mark.parametrize("kind", [0, 1], ids=["cache", "stream"])
@pytest.mark.parametrize("world", WORLDS)
def test_an_epoch_has_each_caption_once(split: Split, kind: int, world: int):
    batches = both(split)[kind]
    for number in range(3):
        whole = epoch(batches, number, world)
        assert len(whole) == batches.batches_per_epoch
        counts = Counter(caption for shares in whole for caption in captions_of(shares))
        assert max(counts.values()) == 1
        assert counts.keys() <= set(split.captions)
        for shares in whole:
            assert sum(len(share.captions) for share in shares) == 12
            assert max(len(s.captions) for s in shares) - min(len(s.captions) for s in shares) <= 1
            photos = np.concatenate([share.photos for share in shares])
            assert len(set(photos.tolist())) == 12
            for share in shares:
                assert share.captions == [split.captions[i] for i in _rows(split, share)]
                np.testing.assert_array_equal(np.asarray(share.regions), split[share.photos])


def _rows(split: Split, share: Batch) -> list[int]:
    rows = [split.captions.index(caption) for caption in share.captions]
    assert split.photo_of_caption[rows].tolist() == share.photos.tolist()
    return rows


def test_few_captions_are_left_out_of_an_epoch(split: Split):
    shuffled, streamed = both(split)
    assert len(split.captions) - 12 < 12 * shuffled.batches_per_epoch <= len(split.captions)
    most, workers = 5, max(WORLDS)
    assert 12 * streamed.batches_per_epoch > len(split.captions) - 12 * (1 + most) - most * (workers + 1)


@pytest.mark.parametrize("kind", [0, 1], ids=["cache", "stream"])
@pytest.mark.parametrize("world", WORLDS)
def test_epoch_resumes_at_any_step(split: Split, kind: int, world: int):
    batches = both(split)[kind]
    whole = epoch(batches, 1, world)
    for first in (1, len(whole) // 2, len(whole) - 1, len(whole)):
        rest = epoch(batches, 1, world, first)
        assert len(rest) == len(whole) - first
        for shares, others in zip(whole[first:], rest, strict=True):
            assert all(same(a, b) for a, b in zip(shares, others, strict=True))


def test_shuffled_batches_do_not_depend_on_the_number_of_workers(split: Split):
    shuffled, _ = both(split)
    one, two, three = (epoch(shuffled, 4, world) for world in WORLDS)
    for a, b, c in zip(one, two, three, strict=True):
        assert set(captions_of(a)) == set(captions_of(b)) == set(captions_of(c))
    assert captions_of(one[0]) != captions_of(epoch(shuffled, 5, 1)[0])
    assert captions_of(one[0]) != captions_of(epoch(replace(shuffled, seed=8), 4, 1)[0])


@pytest.mark.parametrize(
    ("photos", "captions", "size", "digest"),
    [
        (6, 5, 3, "dda12e4c336f7f55"),
        (12, 2, 7, "2fdfa5be81d27fa9"),
        (24, 5, 15, "d1b3c978e9bc6d68"),
        (30, 5, 19, "abb739c9ff74277c"),
        (60, 3, 39, "6be86e88c8a02a29"),
        (60, 5, 20, "332145fc6813e7b1"),
    ],
)
def test_small_sets_fill_the_largest_possible_number_of_batches(
    tmp_path: Path, photos: int, captions: int, size: int, digest: str
):
    """By brute force: the largest number at which the captions of every photo fit into different batches.

    `digest` is that of the order in release 0.2.
    """
    split = made(tmp_path, photos, captions)
    counts = Counter(split.photo_of_caption.tolist()).values()
    can = max(n for n in range(100) if sum(min(count, n) for count in counts) >= n * size)
    batches = ShuffledBatches(split, size, 0)
    assert can > 0
    assert batches.batches_per_epoch == min(can, len(split.captions) // size)
    found = sha256()
    for number in range(20):
        order = batches.order(number)
        found.update(order.astype("<i8").tobytes())
        assert order.shape == (batches.batches_per_epoch, size)
        assert len(set(order.ravel().tolist())) == order.size
        assert all(len(set(split.photo_of_caption[rows].tolist())) == size for rows in order)
    assert found.hexdigest()[:16] == digest


def test_two_captions_of_a_photo_share_a_batch_if_allowed(split: Split):
    for batches in both(split, size=60, allow_same_photo=True):
        met = [shares[0].photos for shares in epoch(batches, 0, 1)]
        assert any(len(set(photos.tolist())) < len(photos) for photos in met)
        counts = Counter(caption for shares in epoch(batches, 0, 1) for caption in captions_of(shares))
        assert max(counts.values()) == 1


def test_photos_may_differ_in_their_number_of_regions(tmp_path: Path):
    split = made(tmp_path, 120, ragged=True)
    for batches in both(split, size=8):
        (share,) = epoch(batches, 0, 1)[0]
        assert [regions.shape for regions in share.regions] == [split[[row]][0].shape for row in share.photos]
        assert len({len(regions) for regions in share.regions}) > 1


@pytest.mark.parametrize("allow_same_photo", [False, True])
def test_batch_size_that_cannot_be_filled_is_an_error(tmp_path: Path, allow_same_photo: bool):
    split = made(tmp_path, 12)
    for batches in both(split, size=200, allow_same_photo=allow_same_photo):
        with pytest.raises(UserError, match=r"train\.batch_size is 200, but|too few to stream"):
            batches.batches_per_epoch  # noqa: B018


@pytest.mark.parametrize(
    ("kind", "digest"), [(0, "48d4c1752df4570c"), (1, "904497a7899669d0")], ids=["cache", "stream"]
)
def test_batches_are_those_of_earlier_releases(split: Split, kind: int, digest: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streamed_batches, "WINDOW", 30)
    found = sha256()
    for size, allow, world in itertools.product((4, 12, 60), (False, True), WORLDS):
        for rank in range(world):
            for batch in both(split, size, allow)[kind].batches(size, 0, rank, world):
                found.update(json.dumps([batch.captions, batch.photos.tolist()]).encode())
    assert found.hexdigest()[:16] == digest
