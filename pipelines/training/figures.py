"""Figures of a finished training, and a page of its mistakes, as artifacts of its MLflow run."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from infra.tracking import Tracking
from pipelines.datasets.photo_sources import photo_uri
from pipelines.features.feature_set import FeatureSet
from pipelines.reports.photo import photo_html
from pipelines.reports.tables import page
from pipelines.training.checkpoint import MetricRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = {
    "loss": "loss per batch",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "captions_per_s": "captions per second",
    "data_wait_fraction": "fraction of time waiting for data",
    "memory_gb": "peak memory, GB",
    "val_rsum": "validation rSum",
}
RECALLS = [f"val_{direction}_r{k}" for direction in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
WIDTH = 260
"""Width of a photo on the page, in pixels."""


def log_figures(
    tracking: Tracking, run_id: str, features: FeatureSet, validation: dict[str, Any], history: Sequence[MetricRow]
) -> None:
    """Logs learning curves, and recall curves, scores and mistakes of the best epoch's validation report."""
    client = tracking.client()
    client.log_figure(run_id, learning_curves(history), "curves.png")
    client.log_figure(run_id, recall_curves(validation), "recalls.png")
    client.log_figure(run_id, score_histogram(validation), "similarities.png")
    client.log_text(run_id, mistakes_page(validation, features), "mistakes.html")


def learning_curves(history: Sequence[MetricRow]) -> "Figure":
    """Returns a figure of every metric by step."""
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


def _curve(axes: "Axes", history: Sequence[MetricRow], metric: str, label: str | None = None) -> None:
    points = [(step, metrics[metric]) for step, _, metrics in history if metric in metrics]
    steps, values = zip(*points, strict=True) if points else ((), ())
    axes.plot(steps, values, marker="." if len(points) < 50 else "", label=label)
    axes.grid(visible=True, alpha=0.3)


def recall_curves(validation: dict[str, Any]) -> "Figure":
    """Returns a figure of recall by K in both directions, with the recall of a random order."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for direction, label in (("image_to_text", "image-to-text"), ("text_to_image", "text-to-image")):
        axes.plot(range(1, len(validation[direction]) + 1), validation[direction], label=label)
    baseline = validation["random_baseline"]
    axes.plot(range(1, len(baseline) + 1), baseline, "--", color="grey", label="text-to-image, random baseline")
    axes.set(xlabel="K", ylabel="recall at K, %", xscale="log", ylim=(0, 100))
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure


def score_histogram(validation: dict[str, Any]) -> "Figure":
    """Returns a figure of the score histograms of matched and of unmatched pairs, each as a density."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for kind in ("unmatched", "matched"):
        pairs = sum(validation[kind])
        density = [count / max(1, pairs) for count in validation[kind]]
        axes.stairs(density, validation["edges"], fill=True, alpha=0.5, label=f"{pairs:,} {kind} pairs")
    axes.set(xlabel="score", ylabel="fraction of pairs")
    axes.legend()
    return figure


def mistakes_page(validation: dict[str, Any], features: FeatureSet) -> str:
    """Returns an HTML page with photos that shows the correct result of each mistake beside the retrieved one."""
    parts = ["<p>The correct photo has a green frame.</p>"]
    for kind, title in (
        ("text_to_image_mistakes", "Captions that retrieve another photo"),
        ("image_to_text_mistakes", "Photos that retrieve a caption of another photo"),
    ):
        parts.append(f"<h2>{title}</h2>")
        parts += [_mistake(mistake, features) for mistake in validation[kind]] or ["<p>None.</p>"]
    return page("Hardest mistakes on the validation split", "\n".join(parts))


def _mistake(mistake: dict[str, Any], features: FeatureSet) -> str:
    figures = []
    for frame, prefix in ((" class=match", ""), ("", "wrong_")):
        picture = photo_html(photo_uri(features.index.photo_root, mistake[f"{prefix}photo"]), [], WIDTH)
        caption = f"{mistake[f'{prefix}score']:.3f} &middot; {html.escape(mistake[f'{prefix}caption'])}"
        figures.append(f"<figure{frame}>{picture}<figcaption>{caption}</figcaption></figure>")
    return f"<article>{''.join(figures)}</article>"
