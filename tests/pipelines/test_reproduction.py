"""The models of the paper's tables, and the figures beside them. `tests/e2e/test_reproduce.py` trains some."""

import re
from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.reproduction import ENSEMBLE, MODELS, PAPER_RSUM, imported, models_of, protocol_of
from shan_model.config import ModelConfig
from tests.support import ROOT
from tests.support.precomputed import scan_folder

PRINTED = {"SCAN, ensemble of t2i and i2t": ENSEMBLE, "SHAN-T2I": "shan-t2i", "SHAN-I2T": "shan-i2t"}
PRINTED |= {"SHAN-full": "shan-full"}


@pytest.mark.parametrize("protocol", PAPER_RSUM)
def test_the_figures_are_those_that_the_docs_print(protocol: str):
    text = (ROOT / "docs" / "model.md").read_text().split(f"`--protocol {protocol}`", 1)[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    printed = {PRINTED[name]: float(rsum) for name, _, _, rsum in rows}
    assert printed == {model: rsum for model, rsum in PAPER_RSUM[protocol].items() if "l2l" not in model}


def test_each_recall_of_the_docs_adds_up_to_its_rsum():
    text = (ROOT / "docs" / "model.md").read_text()
    rows = re.findall(r"\| ([\d., ]+) \| ([\d., ]+) \| (\d{3}\.\d) \|", text)
    assert len(rows) == 8
    for photos, captions, rsum in rows:
        recalls = [float(number) for number in f"{photos}, {captions}".split(", ")]
        assert sum(recalls) == pytest.approx(float(rsum), abs=0.35)  # each of the seven is rounded


def test_all_models_have_a_configuration():
    assert len({ModelConfig(**fields) for fields in MODELS.values()}) == len(MODELS)  # type: ignore[arg-type]
    assert set(models_of("coco-1k-5fold")) == set(MODELS)
    assert "shan-t2i-l2l" not in models_of("f30k-1k")


def test_another_test_split_is_refused(tmp_path: Path):
    folder = scan_folder(tmp_path / "mine_precomp", {"train": 2, "dev": 2, "test": 3})
    features = imported(str(folder), str(tmp_path / "features"))
    assert imported(str(folder), str(tmp_path / "features")).pinned_uri == features.pinned_uri
    assert imported(features.uri, "unused").pinned_uri == features.pinned_uri
    with pytest.raises(UserError, match="split 'test' has 3 photos; use the published splits, 1,000 photos of"):
        protocol_of(features)
