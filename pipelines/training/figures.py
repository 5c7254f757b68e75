"""What a finished training looks like: pictures and a page among the artifacts of its MLflow run."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from infra.tracking import Tracking
from pipelines.datasets.photo_sources import photo_uri
from pipelines.features.feature_set import FeatureSet
from pipelines.reports.photo import photo_html
from pipelines.training.checkpoint import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = {
    "loss": "loss a batch",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "captions_per_s": "captions a second",
    "data_wait_fraction": "share of time waiting for data",
    "memory_gb": "peak memory, GB",
    "val_rsum": "validation rSum",
}
RECALLS = [f"val_{direction}_r{k}" for direction in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
WIDTH = 260
"""Pixels of a photo on the page."""
STYLE = """body{font:15px sans-serif;margin:2em;max-width:1200px}figure{display:inline-block;margin:0 1em 1em 0;
vertical-align:top;width:270px}figcaption{color:#555}.own img{outline:4px solid #3cb44b}article{margin:1.5em 0;
border-top:1px solid #ddd}"""


def log_pictures(
    tracking: Tracking, run_id: str, features: FeatureSet, record: dict[str, Any], history: Sequence[Row]
) -> None:
    """Learning curves, and of the best epoch: recall at every K, scores of pairs, hardest mistakes."""
    client = tracking.client()
    client.log_figure(run_id, curves(history), "curves.png")
    client.log_figure(run_id, recall_curves(record), "recalls.png")
    client.log_figure(run_id, similarities(record), "similarities.png")
    client.log_text(run_id, mistakes_page(record, features), "mistakes.html")


def curves(history: Sequence[Row]) -> "Figure":
    """Every metric by step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 6.5), layout="constrained")
    panels = figure.subplots(2, 4).flat
    for axes, (metric, label) in zip(panels, CURVES.items(), strict=False):
        _curve(axes, history, metric)
        axes.set(xlabel="step", ylabel=label)
    for metric in RECALLS:
        _curve(figure.axes[-1], history, metric, metric.removeprefix("val_").replace("_", " ").replace(" r", " R@"))
    figure.axes[-1].set(xlabel="step", ylabel="validation recall, %")
    figure.axes[-1].legend(fontsize="small")
    return figure


def _curve(axes: "Axes", history: Sequence[Row], metric: str, label: str | None = None) -> None:
    points = [(step, metrics[metric]) for step, _, metrics in history if metric in metrics]
    steps, values = zip(*points, strict=True) if points else ((), ())
    axes.plot(steps, values, marker="." if len(points) < 50 else "", label=label)
    axes.grid(visible=True, alpha=0.3)


def recall_curves(record: dict[str, Any]) -> "Figure":
    """Recall by K, both ways, with what a random order reaches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for direction, label in (("image_to_text", "image-to-text"), ("text_to_image", "text-to-image")):
        axes.plot(range(1, len(record[direction]) + 1), record[direction], label=label)
    random_baseline = record["random_baseline"]
    axes.plot(
        range(1, len(random_baseline) + 1), random_baseline, "--", color="grey", label="text-to-image, random baseline"
    )
    axes.set(xlabel="K", ylabel="recall at K, %", xscale="log", ylim=(0, 100))
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure


def similarities(record: dict[str, Any]) -> "Figure":
    """How scores of matched and of unmatched pairs are spread, each as a density."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for kind in ("unmatched", "matched"):
        pairs = sum(record[kind])
        share = [count / max(1, pairs) for count in record[kind]]
        axes.stairs(share, record["edges"], fill=True, alpha=0.5, label=f"{pairs:,} {kind} pairs")
    axes.set(xlabel="score", ylabel="share of pairs")
    axes.legend()
    return figure


def mistakes_page(record: dict[str, Any], features: FeatureSet) -> str:
    """One HTML file with the photos in it: what was found beside what was right."""
    parts = [f"<!doctype html><meta charset=utf-8><title>Hardest mistakes</title><style>{STYLE}</style>"]
    parts.append("<h1>Hardest mistakes on the validation split</h1><p>The right photo has a green frame.</p>")
    for kind, title in (
        ("text_to_image_mistakes", "Captions that find another photo"),
        ("image_to_text_mistakes", "Photos that find another photo's caption"),
    ):
        parts.append(f"<h2>{title}</h2>")
        parts += [_mistake(each, features) for each in record[kind]] or ["<p>None.</p>"]
    return "\n".join(parts)


def _mistake(each: dict[str, Any], features: FeatureSet) -> str:
    figures = []
    for frame, prefix in ((" class=own", ""), ("", "wrong_")):
        picture = photo_html(photo_uri(features.index["photos"], each[f"{prefix}photo"]), [], WIDTH)
        said = f"{each[f'{prefix}score']:.3f} &middot; {html.escape(each[f'{prefix}caption'])}"
        figures.append(f"<figure{frame}>{picture}<figcaption>{said}</figcaption></figure>")
    return f"<article>{''.join(figures)}</article>"
