"""The results of `make demo`: retrieval well above the random baseline, by a model that is loaded by its name."""

import re
from pathlib import Path

from tests.e2e.conftest import NAME, Demo


def test_recall_is_three_times_the_random_baseline(demo: Demo):
    client = demo.tracking.client()
    version = client.get_model_version_by_alias(NAME, "champion")
    metrics = client.get_run(version.run_id).data.metrics
    assert metrics["test_rsum"] >= 3 * metrics["test_random_rsum"]


def test_a_star_marks_the_photo_of_a_caption(demo: Demo):
    split = demo.features.split("test")
    own = [
        source for source, meta in zip(split.sources, split.meta, strict=True) if split.captions[0] in meta["captions"]
    ]
    options = [f"--model={demo.model}", f"--features={demo.features.uri}", f"--top={len(split)}"]
    output = demo.run("jobs.search", *options, split.captions[0])
    assert sorted(re.findall(r"^ +\d+\. (\S+)  \S+  \*$", output, re.MULTILINE)) == sorted(own)


def test_five_queries_have_results_as_text_and_page(demo: Demo):
    results = demo.output.split("runs five queries")[1]
    assert len(re.findall(r'^"', results, re.MULTILINE)) == 5
    assert len(re.findall(r"^  1\. ", results, re.MULTILINE)) == 5
    (page,) = re.findall(r"^page +(.+)$", demo.output, re.MULTILINE)
    text = Path(page).read_text()
    assert text.count("<h2>") == 5
    assert text.count("src='data:image/jpeg;base64,") == 5 * 3
