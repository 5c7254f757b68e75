"""Tests of the spatial relations of a scene."""

from pipelines.datasets.scenes.world import RELATIONS, clear_relations, relates


def test_relations_that_captions_may_state_are_true(entries):
    stated = set()
    for scene in (entry.scene for entry in entries):
        for a in range(len(scene.things)):
            for b in set(range(len(scene.things))) - {a}:
                for relation in clear_relations(scene, a, b):
                    stated.add(relation)
                    assert relates(scene, a, relation, b)
                    assert not relates(scene, b, relation, a)
    assert stated == set(RELATIONS)
