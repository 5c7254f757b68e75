"""Histograms: each value counted once, bars as high as their counts, an SVG image with a text alternative."""

import base64
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from pipelines.reports.histogram import bin_edges, histogram, histogram_figure

SAMPLES = ([1, 2, 2, 3, 9], [0.1, 0.25, 0.5], list(range(1000)), [5, 6], [-3, 1e6])


@pytest.mark.parametrize("values", SAMPLES)
def test_every_value_is_counted_once(values):
    (axes,) = histogram_figure(np.asarray(values, float)).axes
    assert sum(bar.get_height() for bar in axes.patches) == len(values)


def test_bars_of_integers_cover_equally_many_integers():
    edges = bin_edges(np.arange(1000.0))
    assert set(np.diff(edges)) == {34.0}
    assert edges[0] <= -0.5
    assert edges[-1] >= 999.5
    (axes,) = histogram_figure(np.array([1.0, 1, 1, 1, 3, 3])).axes
    assert [bar.get_height() for bar in axes.patches] == [0, 4, 0, 2, 0]


def test_a_span_sets_the_ends_of_the_axis():
    (axes,) = histogram_figure(np.array([0.2, 0.3, 0.9]), (0, 1)).axes
    assert axes.get_xlim() == (0, 1)
    assert sum(bar.get_height() for bar in axes.patches) == 3


def test_the_image_is_repeatable_and_has_an_alternative_text():
    figure = histogram("Words <of> a caption", [1, 2, 3, 4.5], " words")
    assert figure == histogram("Words <of> a caption", [1, 2, 3, 4.5], " words")
    image = re.search(r"<img alt='([^']*)' src='data:image/svg\+xml;base64,([^']*)'>", figure)
    assert image[1] == "Histogram: Words &lt;of&gt; a caption. Median 2.5, from 1 to 4.5 words; n = 4"
    root = ET.fromstring(base64.b64decode(image[2]))  # noqa: S314 - written by matplotlib
    assert root.tag.endswith("svg")
    assert figure.endswith("<figcaption>Median 2.5, from 1 to 4.5 words; n = 4</figcaption></figure>")


def test_no_values_or_equal_values_are_a_sentence():
    assert "Not recorded in this feature set." in histogram("title", [])
    assert "5 words for each of 3." in histogram("title", [5, 5, 5], " words")
    assert "<img" not in histogram("title", [5, 5, 5])
