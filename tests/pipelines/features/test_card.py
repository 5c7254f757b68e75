"""The data set card of a feature set."""

from pathlib import Path

import pytest
import yaml

from pipelines.features.card import data_card
from tests.support.feature_sets import manifest, write_set


def test_card_describes_feature_set_and_its_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    features = write_set(tmp_path, manifest(tmp_path))
    card = (Path(features.uri) / "README.md").read_text(encoding="utf-8")
    assert data_card(features.index, manifest(tmp_path)).decode() == card
    _, header, text = card.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "pretty_name": "tiny",
        "license": "unknown",
        "tags": ["webdataset", "region-features", "image-text-matching"],
        "size_categories": ["n<1K"],
    }
    assert "| train | 3 | 1 | 8 | 2 |" in text
    assert features.index.feature_set in text
    assert "3 regions of 8 numbers for each of 5 photos" in text
    code = text.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(features.uri)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - the code that the card shows
    lines = capsys.readouterr().out.splitlines()
    assert "p0 (3, 8) ['a photo of 0', 'number 0 <again>']" in lines
    assert len(lines) == 5
