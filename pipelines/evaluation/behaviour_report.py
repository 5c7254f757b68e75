"""Reports of behavioural tests: a summary table, and the worst cases as Markdown or as a page with photos."""

import html
from collections.abc import Sequence
from pathlib import Path

from infra.storage.disk import replace_file
from pipelines.datasets.photo_sources import photo_uri
from pipelines.evaluation.behaviour import BehaviourResult, Case
from pipelines.features.feature_set import FeatureSet
from pipelines.features.split import Split
from pipelines.reports.photo import photo_html
from pipelines.reports.tables import Table, markdown, page

WIDTH = 280
"""Width of a photo on the page, in pixels."""
MAX_CHARACTERS = 300
"""Characters of a caption that are shown."""


def summary_table(title: str, results: Sequence[BehaviourResult]) -> Table:
    """Returns a row per test: expectation, number of cases, pass rate, and the random baseline's pass rate."""
    rows = [
        [
            result.name,
            result.expectation,
            str(result.cases),
            f"{100 * result.passed / result.cases:.1f} %",
            "" if result.random_pass_rate is None else f"{100 * result.random_pass_rate:g} %",
        ]
        for result in results
    ]
    return Table(title, ["test", "expectation", "cases", "passed", "random baseline"], rows)


def worst_cases_table(result: BehaviourResult, split: Split) -> Table:
    """Returns the worst cases of a test, a row each."""
    rows = [
        [
            split.sources[case.row],
            _shorten(case.caption),
            _shorten(case.perturbation),
            f"{case.score:.6f}",
            f"{case.perturbed_score:.6f}",
        ]
        for case in result.worst
    ]
    header = ["photo", "caption", "perturbation", "score", "perturbed score"]
    return Table(f"{result.name}: worst of {result.cases} cases", header, rows)


def write_behaviour_report(
    path: Path, title: str, results: Sequence[BehaviourResult], features: FeatureSet, split: Split
) -> None:
    """Writes the summary and the worst cases: tables for a path that ends in .md, otherwise a page with photos."""
    shown = [result for result in results if result.worst]
    if path.suffix == ".md":
        tables = [summary_table("Summary", results), *(worst_cases_table(result, split) for result in shown)]
        text = f"# {title}\n\n{markdown(tables)}\n"
    else:
        body = "".join(_section(result, features, split) for result in shown)
        text = page(title, summary_table("Summary", results).html() + body)
    replace_file(path, text.encode())


def _section(result: BehaviourResult, features: FeatureSet, split: Split) -> str:
    figures = "".join(_figure(case, features, split) for case in result.worst)
    passed = f"{result.passed} of {result.cases} cases pass. Worst cases:"
    return f"<h2>{html.escape(result.name)}</h2><p>{passed}</p><div class=photos>{figures}</div>"


def _figure(case: Case, features: FeatureSet, split: Split) -> str:
    picture = photo_html(photo_uri(features.index.photo_root, split.sources[case.row]), [], WIDTH)
    lines = f"{html.escape(_shorten(case.caption))} <b>{case.score:.6f}</b>"
    lines += f"<br>{html.escape(_shorten(case.perturbation))} <b>{case.perturbed_score:.6f}</b>"
    return f"<figure>{picture}<figcaption>{lines}</figcaption></figure>"


def _shorten(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= MAX_CHARACTERS else f"{words[:MAX_CHARACTERS]} ..."
