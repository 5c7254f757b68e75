"""The results of `make demo`: retrieval well above the random baseline, by a model that is loaded by its name."""

import re
from pathlib import Path

from tests.e2e.conftest import NAME, Demo


def test_recall_is_three_times_the_random_baseline(demo: Demo):
    client = demo.tracking.client()
    version = client.get_model_version_by_alias(NAME, "champion")
    metrics = client.get_run(version.run_id).data.metrics
    assert metrics["test_rsum"] >= 3 * metrics["test_random_rsum"]


def test_a_fresh_process_ranks_a_right_photo_first(demo: Demo):
    """Every query is a caption of a test scene; a star marks that scene."""
    assert re.search(r"^  1\. test_\d+\.png  \S+  \*$", demo.output, re.MULTILINE)


def test_five_queries_have_results_as_text_and_page(demo: Demo):
    results = demo.output.split("runs five queries")[1]
    assert len(re.findall(r'^"', results, re.MULTILINE)) == 5
    assert len(re.findall(r"^  1\. ", results, re.MULTILINE)) == 5
    (page,) = re.findall(r"^page +(.+)$", demo.output, re.MULTILINE)
    text = Path(page).read_text()
    assert text.count("<h2>") == 5
    assert text.count("src='data:image/jpeg;base64,") == 5 * 3
