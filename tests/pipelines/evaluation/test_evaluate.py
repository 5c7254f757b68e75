"""Evaluation of models given by any URI, alone and side by side, in tables and files."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.registry import set_champions
from infra.storage.open import open_store
from infra.tracking import Tracking, TrackingConfig
from jobs import evaluate
from pipelines.evaluation.results import Evaluation, difference_table, evaluation_tables
from pipelines.evaluation.score import ScoreConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import load_matcher, load_matchers
from shan_model.scoring import score_matrix
from tests.support.servers import S3Server
from tests.support.small_models import model, register_model, small_set, write_checkpoint


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_set(tmp_path_factory.mktemp("features"))


def measured(features: FeatureSet, steps: int, name: str) -> Evaluation:
    return evaluate.evaluate(model(features, steps), name, features.split("val"), ScoreConfig(), ClusterConfig())


def run(monkeypatch: pytest.MonkeyPatch, *argv: str) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", *argv])
    evaluate.main()


def test_tables_show_the_recalls_of_the_ranks_within_their_intervals(features):
    found = measured(features, 5, "m")
    split = features.split("val")
    scores_NC = score_matrix(model(features, 5), split, split.captions)
    best_C = scores_NC.argmax(axis=0)
    assert found.recalls.text_to_image_r1 == pytest.approx(100 * (best_C == split.photo_of_caption).mean())
    text, image, both, *_ = evaluation_tables([found])
    recalls = found.recalls
    figures = [recalls.image_to_text_r1, recalls.image_to_text_r5, recalls.image_to_text_r10, recalls.image_to_text_sum]
    figures += [
        recalls.text_to_image_r1,
        recalls.text_to_image_r5,
        recalls.text_to_image_r10,
        recalls.text_to_image_sum,
        recalls.rsum,
    ]
    for cell, figure in zip([*text.rows[0][1:5], *image.rows[0][1:5], both.rows[0][1]], figures, strict=True):
        value, low, high = map(float, re.fullmatch(r"(.+) \((.+) to (.+)\)", cell).groups())
        assert value == pytest.approx(figure, abs=0.05)
        assert low <= value <= high
    assert text.rows[-1][0] == image.rows[-1][0] == both.rows[-1][0] == "random baseline"
    assert float(image.rows[-1][1]) == pytest.approx(100 / 30, abs=0.05)


def test_differences_are_paired(features):
    """Compared with itself a model has differences of exactly 0, which independent resamples would not give."""
    one, other = measured(features, 0, "untrained"), measured(features, 20, "trained")
    same = difference_table(one, replace(one, model="again"))
    assert {tuple(row[1:]) for row in same.rows} == {("+0.0", "+0.0 to +0.0", "0.0 %")}
    rows = {row[0]: row for row in difference_table(other, one).rows}
    assert float(rows["rSum"][1]) == pytest.approx(other.recalls.rsum - one.recalls.rsum, abs=0.05)
    assert rows["rSum"][3] == "100.0 %"
    assert list(rows)[:3] == ["image-to-text R@1", "image-to-text R@5", "image-to-text R@10"]


def test_checkpoints_are_compared_and_reported_without_a_tracking_store(features, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    uris = [write_checkpoint(tmp_path / str(steps), model(features, steps), features) for steps in (0, 20)]
    for report in ("out/r.md", "out/r.html"):
        run(monkeypatch, "--model", *uris, f"--features={features.uri}", "--split=val", f"--report={report}")
    printed = capsys.readouterr().out
    markdown, page = Path("out/r.md").read_text(), Path("out/r.html").read_text()
    assert markdown.split("\n\n", 1)[1].strip() in printed
    assert f"**{uris[1]} minus {uris[0]}**" in printed
    cells = re.findall(r"<td>(.*?)</td>", page)
    assert [c for line in markdown.splitlines() if re.match(r"\| [^-m]", line)
            for c in line.strip("| ").split(" | ")] == [c for c in cells if c]  # fmt: skip
    assert not Path("build").exists()


def test_the_uris_of_a_version_an_alias_and_a_run_load_the_same_model(features, tracking: Tracking, tmp_path):
    shan = model(features, 5)
    number = register_model(tracking, "small", shan, features, tmp_path / "bundle")
    set_champions(tracking, "small", [number])
    run_id = tracking.client().get_model_version("small", str(number)).run_id
    split = features.split("val")
    expected = score_matrix(shan, split, split.captions)
    uris = ["models:/small/1", "models:/small@champion", f"runs:/{run_id}", f"runs:/{run_id}/model"]
    for loaded in load_matchers(uris, features, TrackingConfig(uri=tracking.uri)):
        np.testing.assert_array_equal(score_matrix(loaded, split, split.captions), expected)
    for gone in ("models:/small/7", "runs:/0123", "models:/none@champion"):
        with pytest.raises(UserError, match=f"{gone}.*: no such model"):
            load_matcher(tracking, gone, features)


def test_a_checkpoint_in_s3_is_loaded(features, s3_server: S3Server, tmp_path):
    shan = model(features, 5)
    local = Path(write_checkpoint(tmp_path / "local", shan, features))
    uri = f"s3://{s3_server.bucket}/runs/a/best"
    for file in local.iterdir():
        open_store(uri).replace(file.name, file.read_bytes())
    split = features.split("val")
    scores = [score_matrix(m, split, split.captions) for m in (shan, load_matcher(None, uri, features))]
    np.testing.assert_array_equal(*scores)


def test_errors_name_the_fix(features, tmp_path, monkeypatch):
    shan = model(features)
    good = write_checkpoint(tmp_path / "good", shan, features)
    with pytest.raises(
        UserError, match=r"nowhere: not a checkpoint folder of a model \(needs weights.safetensors, config.json"
    ):
        load_matcher(None, str(tmp_path / "nowhere"), features)
    other = write_checkpoint(tmp_path / "other", shan, features)
    (tmp_path / "other" / "lineage.json").write_text(json.dumps({"fingerprint": "another-1"}))
    with pytest.raises(
        UserError, match=r"other was made for features of another-1 but .* has features of made-up-0123; extract"
    ):
        load_matcher(None, other, features)
    (tmp_path / "other" / "lineage.json").write_text("{")
    with pytest.raises(UserError, match="corrupt"):
        load_matcher(None, other, features)
    options = [f"--features={features.uri}", "--split=val"]
    for bad, said in (
        ("--report=r.pdf", "end the name in .md"),
        ("--score.cache_file=s.npy", "score.cache_file is set"),
    ):
        with pytest.raises(UserError, match=said):
            run(monkeypatch, "--model", good, good, *options, bad)
