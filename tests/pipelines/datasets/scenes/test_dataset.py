"""Tests of the drawn data set: split sizes, minimal pairs, and independence of the splits."""

from collections import Counter
from dataclasses import replace

import pytest

from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.datasets.scenes.dataset import draw_dataset
from tests.support.caption_reader import bag
from tests.support.small_scenes import SMALL


def test_another_seed_gives_other_scenes_and_captions():
    scenes, other = draw_dataset(SMALL), draw_dataset(replace(SMALL, seed=4))
    assert not {e.scene for e in scenes} & {e.scene for e in other}
    assert [e.captions for e in scenes] != [e.captions for e in other]


def test_val_and_test_do_not_depend_on_the_size_of_train():
    scenes, other = draw_dataset(SMALL), draw_dataset(replace(SMALL, train=20))
    assert [e for e in scenes if e.split != "train"] == [e for e in other if e.split != "train"]


def test_half_of_every_split_belongs_to_minimal_pairs(entries):
    by_name = {entry.name: entry for entry in entries}
    for split, size in (("train", 160), ("val", 40), ("test", 80)):
        paired = [entry for entry in entries if entry.split == split and entry.counterpart]
        assert len(paired) == size / 2
        assert all(
            by_name[e.counterpart].counterpart == e.name and by_name[e.counterpart].split == split for e in paired
        )


@pytest.mark.parametrize(("fraction", "paired"), [(0.0, 0), (0.5, 4), (1.0, 6)])
def test_minimal_pairs_are_a_fraction_also_of_odd_splits(fraction, paired):
    drawn = draw_dataset(ScenesConfig(train=2, val=3, test=7 + (fraction == 0.5) * 2, minimal_pairs=fraction))
    assert Counter(e.split for e in drawn if e.counterpart)["test"] == paired


def test_no_combination_of_attributes_is_in_two_splits(entries):
    seen = {split: {e.scene.key for e in entries if e.split == split} for split in ("train", "val", "test")}
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_every_word_of_the_test_split_occurs_in_training(entries):
    train, test = (
        {word for e in entries if e.split == split for caption in e.captions for word in bag(caption)}
        for split in ("train", "test")
    )
    assert test <= train
