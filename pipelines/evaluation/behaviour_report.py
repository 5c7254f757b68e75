"""pipelines/evaluation/behaviour_report.py."""

import html
from collections.abc import Sequence
from pathlib import Path

from pipelines.datasets.photo_sources import photo_uri
from pipelines.evaluation.behaviour import Example, Outcome
from pipelines.features.feature_set import FeatureSet, Split
from pipelines.reports.photo import photo_html
from pipelines.reports.tables import Table, page

WIDTH = 280
"""Pixels of a photo on the page."""


LONGEST = 300
"""Letters of a caption that are shown."""


def summary(title: str, outcomes: Sequence[Outcome]) -> Table:
    """A row a test: what it asks, cases, pass rate, chance."""
    rows = [
        [
            outcome.name,
            outcome.asks,
            str(outcome.cases),
            f"{100 * outcome.passed / outcome.cases:.1f} %",
            "" if outcome.chance is None else f"{100 * outcome.chance:g} %",
        ]
        for outcome in outcomes
    ]
    return Table(title, ["test", "asks that", "cases", "pass", "chance"], rows)


def worst_cases(outcome: Outcome, split: Split) -> Table:
    """The cases that fail by the most."""
    rows = [
        [split.meta[e.row]["source"], _cut(e.said), _cut(e.changed), f"{e.before:.6f}", f"{e.after:.6f}"]
        for e in outcome.worst
    ]
    head = ["photo", "caption", "changed", "score", "score changed"]
    return Table(f"{outcome.name}: worst of {outcome.cases}", head, rows)


def write_behaviour(path: Path, title: str, outcomes: Sequence[Outcome], features: FeatureSet, split: Split) -> None:
    """Markdown, or a page with the photos of the worst cases."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = [outcome for outcome in outcomes if outcome.worst]
    if path.suffix == ".md":
        parts = [f"# {title}", summary(title, outcomes).markdown()]
        text = "\n\n".join([*parts, *(worst_cases(outcome, split).markdown() for outcome in shown)]) + "\n"
    else:
        body = "".join(_section(outcome, features, split) for outcome in shown)
        text = page(title, summary("Tests", outcomes).html() + body)
    path.write_text(text, encoding="utf-8")


def _section(outcome: Outcome, features: FeatureSet, split: Split) -> str:
    figures = "".join(_figure(example, features, split) for example in outcome.worst)
    told = f"{outcome.passed} of {outcome.cases} pass; the worst:"
    return f"<h2>{html.escape(outcome.name)}</h2><p>{told}</p><div class=photos>{figures}</div>"


def _figure(example: Example, features: FeatureSet, split: Split) -> str:
    picture = photo_html(photo_uri(features.index["photos"], split.meta[example.row]["source"]), [], WIDTH)
    lines = f"{html.escape(_cut(example.said))} <b>{example.before:.6f}</b>"
    lines += f"<br>{html.escape(_cut(example.changed))} <b>{example.after:.6f}</b>"
    return f"<figure>{picture}<figcaption>{lines}</figcaption></figure>"


def _cut(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]} ..."
