"""Reports of behavioural tests: the summary and the worst cases, as Markdown and as a page."""

from pathlib import Path

import pytest

from pipelines.evaluation.behaviour import BehaviourResult, Case
from pipelines.evaluation.behaviour_report import (
    MAX_CHARACTERS,
    summary_table,
    worst_cases_table,
    write_behaviour_report,
)
from pipelines.features.feature_set import FeatureSet
from tests.support.feature_sets import manifest, write_photos, write_set

CASE = Case(1, "a <red> dog", "a  blue\tdog " + "x" * 400, 0.5, 0.25)
DIRECTIONAL = BehaviourResult("colour replaced", "a caption scores higher", 8, 6, 0.5, [CASE])
INVARIANCE = BehaviourResult("photo order", "the order does not change a score", 4, 4, None, [])


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    photos = manifest(tmp_path, 12)
    write_photos(photos)
    return write_set(tmp_path, photos)


def test_the_summary_has_pass_rates_and_the_random_baseline():
    rows = summary_table("t", [DIRECTIONAL, INVARIANCE]).rows
    assert list(rows[0]) == ["colour replaced", "a caption scores higher", "8", "75.0 %", "50 %"]
    assert list(rows[1]) == ["photo order", "the order does not change a score", "4", "100.0 %", ""]


def test_the_worst_cases_have_shortened_texts_and_scores(features):
    split = features.split("train")
    ((photo, caption, perturbation, *scores),) = worst_cases_table(DIRECTIONAL, split).rows
    assert photo == split.sources[1]
    assert (caption, scores) == ("a <red> dog", ["0.500000", "0.250000"])
    assert perturbation.startswith("a blue dog xxx")
    assert len(perturbation) == MAX_CHARACTERS + len(" ...")


def test_the_suffix_selects_markdown_or_a_page_with_photos(features, tmp_path: Path):
    split = features.split("train")
    for name in ("r.md", "r.html"):
        write_behaviour_report(tmp_path / "out" / name, "Title", [DIRECTIONAL, INVARIANCE], features, split)
    markdown, page = ((tmp_path / "out" / name).read_text(encoding="utf-8") for name in ("r.md", "r.html"))
    assert markdown.startswith("# Title\n\n**Summary**\n")
    assert "**colour replaced: worst of 8 cases**" in markdown
    assert "**photo order: worst" not in markdown
    assert page.count("src='data:image/jpeg;base64,") == 1
    assert "a &lt;red&gt; dog <b>0.500000</b>" in page
    assert "6 of 8 cases pass" in page
