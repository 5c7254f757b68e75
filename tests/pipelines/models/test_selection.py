"""How a sweep selected a version: recorded as tags, and where results are optimistic because of it."""

from dataclasses import replace

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


def test_a_smaller_sweep_does_not_hide_a_selection(tracking: Tracking):
    """Both have the same best trial."""
    client = tracking.client()
    client.create_registered_model("m")
    client.create_model_version("m", "file:///nowhere")
    larger = replace(SELECTION, sweep="4567", trials=9)
    for selection in (SELECTION, larger, replace(SELECTION, trials=1)):
        record_selection(tracking, "m", 1, selection)
    assert read_selection(client.get_model_version("m", "1").tags) == larger


@pytest.mark.parametrize(
    ("trials", "dataset", "split", "bias"),
    [
        (8, "flickr30k", "val", "the best of 8 trials of a sweep on val"),
        (8, "flickr30k", "test", ""),
        (8, "mine", "val", "the best of 8 trials of a sweep on val of data set flickr30k, if mine has photos of it"),
        (1, "flickr30k", "val", ""),
    ],
)
def test_results_are_optimistic_on_the_split_of_a_selection(trials: int, dataset: str, split: str, bias: str):
    assert Selection("0123", trials, "val", "flickr30k").bias_on(dataset, split) == bias
