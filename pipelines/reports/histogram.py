"""Histograms as inline SVG: no script, no other file, colours from the page's style (`--bar`, `--line`)."""

import html
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 340, 150
"""Of the bars' area, in SVG units (pixels at full size); labels lie around it."""
LEFT, TOP, BELOW = 44, 12, 22
MOST_BARS = 30


def histogram(title: str, values: Sequence[float], unit: str = "", span: tuple[float, float] | None = None) -> str:
    """A `<figure>` of how often values occur, with their median and extremes below. `span`: the axis's ends, if they
    are known beforehand. It says so where there is no value, or but one.
    """
    head = f"<figure><h3>{html.escape(title)}</h3>"
    if not len(values):
        return f"{head}<p class=none>This feature set does not say.</p></figure>"
    array = np.asarray(values, dtype=np.float64)
    low, middle, high = (_number(float(value)) for value in (array.min(), np.median(array), array.max()))
    if low == high:
        return f"{head}<p class=none>{low}{unit} for each of {len(array):,}.</p></figure>"
    edges = _edges(array, span)
    whole = bool((array == np.round(array)).all())
    svg = _svg(edges, np.histogram(array, edges)[0].tolist(), whole)
    return (
        f"{head}{svg}<figcaption>Median {middle}, from {low} to {high}{unit}; n = {len(array):,}</figcaption></figure>"
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about as many as asked for."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _edges(array: NDArray[np.float64], span: tuple[float, float] | None) -> NDArray[np.float64]:
    """Edges of the bars. Whole numbers get bars of a whole width, so that none of them looks rarer than it is."""
    low, high = span or (float(array.min()), float(array.max()))
    if span is None and (array == np.round(array)).all():
        step = max(1, math.ceil((high - low + 1) / MOST_BARS))
        bars = max(5, math.ceil((high - low + 1) / step))
        first = low - (bars * step - (high - low + 1)) // 2
        return np.asarray(first - 0.5 + step * np.arange(bars + 1), np.float64)
    return np.linspace(low, high, (20 if span else MOST_BARS) + 1)


def _svg(edges: NDArray[np.float64], counts: list[int], whole: bool) -> str:
    low, high, most = float(edges[0]), float(edges[-1]), max(counts)

    def across(value: float) -> float:
        return LEFT + WIDTH * (value - low) / (high - low)

    parts = [f"<svg viewBox='0 0 {LEFT + WIDTH + 12} {TOP + HEIGHT + BELOW}' role=img>"]
    for value in ticks(0, most, 4):
        y = TOP + HEIGHT * (1 - value / most)
        if value == int(value):
            parts.append(f"<path class=grid d='M{LEFT} {y:.1f}h{WIDTH}'/>")
            parts.append(f"<text text-anchor=end x={LEFT - 6} y={y + 4:.1f}>{int(value):,}</text>")
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        x, wide, high_ = across(left) + 0.5, across(right) - across(left) - 1, HEIGHT * count / most
        told = f"{_range(left, right, whole)}: {count:,}"
        bar = f"x={x:.1f} y={TOP + HEIGHT - high_:.1f} width={wide:.1f} height={high_:.1f}"
        parts.append(f"<rect class=bar {bar}><title>{told}</title></rect>")
    parts.append(f"<path class=axis d='M{LEFT} {TOP + HEIGHT}h{WIDTH}'/>")
    labels = [value for value in ticks(low, high) if not whole or value == int(value)]
    below = f"y={TOP + HEIGHT + 16}"
    parts += [f"<text text-anchor=middle x={across(value):.1f} {below}>{_number(value)}</text>" for value in labels]
    return "".join(parts) + "</svg>"


def _range(left: float, right: float, whole: bool) -> str:
    if not whole:
        return f"{_number(left)} to {_number(right)}"
    first, last = math.ceil(left), math.ceil(right) - 1
    return str(first) if first == last else f"{first} to {last}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"
