"""The command `behaviour`: pass rates in the terminal, worst cases in report files."""

import re
import sys
from pathlib import Path

import pytest
import torch

from infra.tracking import Tracking
from jobs import behaviour
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.support.feature_sets import FEATURE_DIM, manifest, write_photos, write_set
from tests.support.small_models import evaluated_splits, register_model


def test_rates_and_worst_cases_are_shown_and_the_split_logged(
    tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    photos = manifest(tmp_path, 60, "a small red dog left of a blue ball in photo")
    write_photos(photos)
    features = write_set(tmp_path, photos)
    torch.manual_seed(0)
    config = ModelConfig(region_dim=FEATURE_DIM, joint_dim=8, word_dim=6)
    shan = SHAN(config, Vocabulary.build(features.split("test").captions)).eval()
    register_model(tracking, "m", shan, features, tmp_path / "best")
    for report in ("b.md", "b.html"):
        options = [f"--features={features.uri}", f"--report={tmp_path / report}", f"--tracking.uri={tracking.uri}"]
        monkeypatch.setattr(sys, "argv", ["behaviour", "--model=models:/m/1", *options])
        behaviour.main()
    printed = capsys.readouterr().out
    markdown, page = (Path(tmp_path / name).read_text() for name in ("b.md", "b.html"))
    rates = re.findall(r"^\| photo order \| .* \| 100 \| (.*) \|  \|$", printed, re.MULTILINE)
    assert rates == ["100.0 %", "100.0 %"]
    assert "**word order: worst of" in markdown
    assert page.count("src='data:image/jpeg;base64,") > 20
    assert page.count("class=gone") == 0
    assert evaluated_splits(tracking, "m") == ["tiny test"]
