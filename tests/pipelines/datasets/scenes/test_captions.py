"""Tests of the captions with an independent reader: true, varied, and indistinguishable for a bag of words.

They fill the sentences of `pipelines.datasets.scenes.frames` with words of `pipelines.datasets.scenes.lexicon`.
"""

import numpy as np

from tests.support.caption_reader import bag, is_true, read


def test_minimal_pairs_share_words_but_not_sentences(pairs):
    assert {first.swap for first, _ in pairs} == {"colour", "texture", "size", "place"}
    for first, second in pairs:
        for one, other in zip(first.captions, second.captions, strict=True):
            assert bag(one) == bag(other)
            assert one != other


def test_a_bag_of_words_cannot_solve_minimal_pairs(pairs, truth):
    bag_hits, reader_hits, queries = 0.0, 0.0, 0
    for couple in pairs:
        for mine, entry in enumerate(couple):
            for caption in entry.captions:
                overlap = [max((bag(c) & bag(caption)).total() for c in e.captions) for e in couple]
                bag_hits += expected_r1(overlap, mine)
                reader_hits += expected_r1([is_true(read(caption), truth[e.name]) for e in couple], mine)
                queries += 1
    assert bag_hits / queries <= 0.5
    assert reader_hits / queries == 1.0


def test_every_caption_is_true_of_its_scene(entries, truth):
    for entry in entries:
        for caption in entry.captions:
            assert is_true(read(caption), truth[entry.name]), (entry.name, caption)


def test_captions_state_only_unambiguous_relations(entries, truth):
    """Uses the centres of the boxes, which differ from those of the discs by at most 15 pixels."""
    for entry in entries:
        for caption in entry.captions:
            assert is_true(read(caption), truth[entry.name], gap=25), (entry.name, caption)


def test_five_captions_differ_in_words_and_pattern(entries):
    for entry in entries:
        assert len({caption.lower() for caption in entry.captions}) == 5
        openings = [read(caption) for caption in entry.captions]
        assert len({(str(o.things), str(o.relations), o.background, o.count) for o in openings}) >= 3


def test_captions_single_out_their_scene(entries, truth):
    test = [entry for entry in entries if entry.split == "test"]
    counts = [sum(is_true(read(c), truth[e.name]) for e in test) for entry in test for c in entry.captions]
    assert np.mean([count == 1 for count in counts]) > 0.98


def expected_r1(scores, right):
    """Returns the R@1 of one query if ties are broken at random."""
    best = [k for k, score in enumerate(scores) if score == max(scores)]
    return (right in best) / len(best)
