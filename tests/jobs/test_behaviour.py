"""The command `behaviour`: pass rates in the terminal, worst cases in report files."""

import re
import sys
from pathlib import Path

import pytest
import torch

from jobs import behaviour
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.support.feature_sets import FEATURE_DIM, manifest, write_photos, write_set
from tests.support.small_models import write_checkpoint


def test_pass_rates_and_the_worst_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    photos = manifest(tmp_path, 60, "a small red dog left of a blue ball in photo")
    write_photos(photos)
    features = write_set(tmp_path, photos)
    torch.manual_seed(0)
    config = ModelConfig(region_dim=FEATURE_DIM, joint_dim=8, word_dim=6)
    shan = SHAN(config, Vocabulary.build(features.split("test").captions)).eval()
    uri = write_checkpoint(tmp_path / "best", shan, features)
    for report in ("b.md", "b.html"):
        options = [f"--model={uri}", f"--features={features.uri}", f"--report={tmp_path / report}"]
        monkeypatch.setattr(sys, "argv", ["behaviour", *options])
        behaviour.main()
    printed = capsys.readouterr().out
    markdown, page = (Path(tmp_path / name).read_text() for name in ("b.md", "b.html"))
    rates = re.findall(r"^\| photo order \| .* \| 100 \| (.*) \|  \|$", printed, re.MULTILINE)
    assert rates == ["100.0 %", "100.0 %"]
    assert "**word order: worst of" in markdown
    assert page.count("src='data:image/jpeg;base64,") > 20
    assert page.count("class=gone") == 0
