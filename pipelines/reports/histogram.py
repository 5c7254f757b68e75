"""Histograms for HTML reports: drawn by matplotlib, embedded as SVG images with a text alternative."""

import base64
import html
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (4.4, 2.1)
"""Width and height in inches."""
MAX_BARS = 30
"""Bars of a histogram, at most."""
SPAN_BARS = 20
"""Bars of a histogram whose axis is given."""
BAR, TEXT = "#4f86c6", "#7d8792"
"""Colours that are legible on the light and on the dark page."""


def histogram(title: str, values: Sequence[float], unit: str = "", span: tuple[float, float] | None = None) -> str:
    """Returns an HTML `<figure>`: the histogram of the values, with their median and range below it.

    `span` sets the ends of the axis. A sentence replaces the image if there are no values, or if all are equal.
    """
    head = f"<figure><h3>{html.escape(title)}</h3>"
    if not len(values):
        return f"{head}<p class=none>Not recorded in this feature set.</p></figure>"
    array = np.asarray(values, dtype=np.float64)
    low, median, high = (_number(float(value)) for value in (array.min(), np.median(array), array.max()))
    if low == high:
        return f"{head}<p class=none>{low}{unit} for each of {len(array):,}.</p></figure>"
    caption = f"Median {median}, from {low} to {high}{unit}; n = {len(array):,}"
    data = base64.b64encode(_svg(histogram_figure(array, span))).decode()
    alt = html.escape(f"Histogram: {title}. {caption}", quote=True)
    return f"{head}<img alt='{alt}' src='data:image/svg+xml;base64,{data}'><figcaption>{caption}</figcaption></figure>"


def histogram_figure(values: NDArray[np.float64], span: tuple[float, float] | None = None) -> "Figure":
    """Returns a matplotlib figure with one bar per bin."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    edges = bin_edges(values, span)
    counts, _ = np.histogram(values, edges)
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=BAR, edgecolor="none", linewidth=0)
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=span is None and _are_integers(values)))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.tick_params(colors=TEXT, labelsize=8, length=0)
    axes.grid(axis="y", color=TEXT, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(TEXT)
    return figure


def bin_edges(values: NDArray[np.float64], span: tuple[float, float] | None = None) -> NDArray[np.float64]:
    """Returns the edges of the bins. Integers get bins of an integer width, so that each bin covers as many of them."""
    low, high = span or (float(values.min()), float(values.max()))
    if span is None and _are_integers(values):
        step = max(1, math.ceil((high - low + 1) / MAX_BARS))
        bars = max(5, math.ceil((high - low + 1) / step))
        first = low - (bars * step - (high - low + 1)) // 2
        return np.asarray(first - 0.5 + step * np.arange(bars + 1), np.float64)
    return np.linspace(low, high, (SPAN_BARS if span else MAX_BARS) + 1)


def _svg(figure: "Figure") -> bytes:
    """Returns the figure as SVG, with the same bytes for the same figure."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "histogram"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _are_integers(values: NDArray[np.float64]) -> bool:
    return bool((values == np.round(values)).all())


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"
