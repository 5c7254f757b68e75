"""How a sweep selected a version: recorded as tags, and where results are optimistic because of it."""

import pytest

from infra.tracking import Tracking
from pipelines.models.selection import Selection, read_selection, record_selection

SELECTION = Selection("0123", 8, "val", "flickr30k")


def test_a_selection_is_read_as_it_was_recorded(tracking: Tracking):
    client = tracking.client()
    client.create_registered_model("m")
    client.create_model_version("m", "file:///nowhere", tags={"dataset": "flickr30k"})
    assert read_selection(client.get_model_version("m", "1").tags) is None
    record_selection(tracking, "m", 1, SELECTION)
    assert read_selection(client.get_model_version("m", "1").tags) == SELECTION


@pytest.mark.parametrize(
    ("trials", "dataset", "split", "biased"),
    [
        (8, "flickr30k", "val", True),
        (8, "flickr30k", "test", False),
        (8, "coco", "val", False),
        (1, "flickr30k", "val", False),
    ],
)
def test_results_are_optimistic_on_the_split_of_a_selection(trials: int, dataset: str, split: str, biased: bool):
    assert Selection("0123", trials, "val", "flickr30k").is_biased_on(dataset, split) is biased
