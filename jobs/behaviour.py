"""How a model behaves: word order, swapped attributes, odd texts, orders and duplicates, with its worst cases.

python -m jobs.behaviour --model models:/shan-flickr30k@champion --features URI --split test --report behaviour.html
"""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jobs import cli
from jobs.behaviour_tests import Example, Outcome, behaviour
from jobs.load import MODEL_HELP, load_matchers
from jobs.photo_page import photo_html
from jobs.tables import Table, check_report, page
from pipelines.feature_set import FeatureSet, Split
from pipelines.sources import photo_uri

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


def _arguments(parser: Any) -> None:
    parser.add_argument("--model", type=str, required=True, help=MODEL_HELP)
    parser.add_argument("--features", type=str, required=True, help="URI of a feature set")
    parser.add_argument("--split", type=str, default="test", help="train, val or test")
    parser.add_argument(
        "--report", type=Path | None, default=None, help="also write the worst cases to this .md, or .html with photos"
    )


def main() -> None:
    """Command line."""
    arguments, config = cli.parse("behaviour", "Behavioural tests of a model.", _arguments, ("tracking",))
    check_report(arguments.report)
    features = FeatureSet.open(arguments.features)
    split = features.split(arguments.split)
    (shan,) = load_matchers([arguments.model], features, config.tracking)
    outcomes = list(tqdm(behaviour(shan, split), desc="behaviour", unit="test"))
    title = f"Behaviour of {arguments.model} on {split.name}"
    print(summary(title, outcomes).markdown())
    if arguments.report is not None:
        write_behaviour(arguments.report, title, outcomes, features, split)


if __name__ == "__main__":
    cli.run(main)
