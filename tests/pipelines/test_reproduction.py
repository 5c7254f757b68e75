"""The models of the paper's tables, and the figures beside them. `tests/e2e/test_reproduce.py` trains some."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra import cluster_resources
from infra.cluster import ClusterConfig
from infra.errors import UserError
from pipelines.evaluation.results import Evaluation
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.reproduction import (
    ENSEMBLE,
    MODEL_FIELDS,
    MODELS,
    PAPER,
    check_features,
    check_training,
    comparison_rows,
    imported,
    model_fields,
    models_of,
    protocol_of,
    settings_table,
)
from pipelines.training.config import TrainConfig
from pipelines.training.setup import TrainingSetup
from shan_model.config import ModelConfig
from shan_model.metrics import Ranks
from tests.support import ROOT
from tests.support.precomputed import scan_folder

PRINTED = {"SCAN, ensemble of t2i and i2t": ENSEMBLE, "SHAN-T2I": "shan-t2i", "SHAN-I2T": "shan-i2t"}
PRINTED |= {"SHAN-full": "shan-full"}


@pytest.mark.parametrize("protocol", PAPER)
def test_the_figures_are_those_that_the_docs_print(protocol: str):
    text = (ROOT / "docs" / "model.md").read_text().split(f"`--protocol {protocol}`", 1)[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    printed = {PRINTED[name]: (*directions, float(rsum)) for name, *directions, rsum in rows}
    assert printed == {model: figures for model, figures in PAPER[protocol].items() if "l2l" not in model}


def test_each_recall_of_the_docs_adds_up_to_its_rsum():
    text = (ROOT / "docs" / "model.md").read_text()
    rows = re.findall(r"\| ([\d., ]+) \| ([\d., ]+) \| (\d{3}\.\d) \|", text)
    assert len(rows) == 8
    for photos, captions, rsum in rows:
        recalls = [float(number) for number in f"{photos}, {captions}".split(", ")]
        assert sum(recalls) == pytest.approx(float(rsum), abs=0.35)  # each of the seven is rounded


def test_all_models_have_a_configuration_of_their_own():
    """A field that an entry left out would be that of an option or preset, below the name of another model."""
    assert {tuple(fields) for fields in MODELS.values()} == {MODEL_FIELDS}
    assert {name: model_fields(name, "f30k-1k") for name in MODELS} == MODELS
    assert model_fields("scan-i2t", "coco-1k-5fold") == MODELS["scan-i2t"] | {"scan_lse_factor": 20.0}
    assert model_fields("scan-t2i", "coco-1k-5fold") == MODELS["scan-t2i"]
    assert len({ModelConfig(**fields) for fields in MODELS.values()}) == len(MODELS)  # type: ignore[arg-type]
    assert set(models_of("coco-1k-5fold")) == set(MODELS)
    assert "shan-t2i-l2l" not in models_of("f30k-1k")


def test_another_test_split_is_refused_before_the_import(tmp_path: Path):
    folder = scan_folder(tmp_path / "mine_precomp", {"train": 2, "dev": 2, "test": 3})
    refused = "split 'test' has 3 photos; use the published splits, 1,000 photos of"
    with pytest.raises(UserError, match=rf"^{folder}: {refused}"):
        check_features(str(folder), 2)
    assert [*tmp_path.iterdir()] == [folder]
    features = imported(str(folder), str(tmp_path / "features"))
    assert imported(str(folder), str(tmp_path / "features")).pinned_uri == features.pinned_uri
    assert imported(features.uri, "unused").pinned_uri == features.pinned_uri
    for check in (lambda: check_features(features.uri, 2), lambda: protocol_of(features)):
        with pytest.raises(UserError, match=rf"^{features.uri}: {refused}"):
            check()


def test_a_test_split_with_a_row_for_each_caption_is_accepted(tmp_path: Path):
    folder = scan_folder(tmp_path / "f30k_precomp", {"train": 2, "test": 1000}, regions=1, width=2)
    check_features(str(folder), 2)
    with pytest.raises(UserError, match=rf"^{folder} has features of width 2, but model\.region_dim is 2048; set"):
        check_features(str(folder), 2048)
    np.save(folder / "test_ims.npy", np.repeat(np.load(folder / "test_ims.npy"), 5, axis=0))
    check_features(str(folder), 2)


def test_what_trainings_need_is_checked_before_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`tests/e2e/test_reproduce.py` checks missing GPUs."""
    monkeypatch.chdir(tmp_path)
    setup = TrainingSetup()
    check_training(setup, ScoreConfig())
    missing = replace(setup, train=TrainConfig(word_vectors="none.txt"))
    with pytest.raises(UserError, match=r"train\.word_vectors '.*none\.txt' cannot be read"):
        check_training(missing, ScoreConfig())
    monkeypatch.setattr(cluster_resources, "GIVE_UP_S", -1.0)
    monkeypatch.setattr("infra.cluster.connect", lambda *_: None)
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    joined = replace(setup, cluster=ClusterConfig(address="auto"))
    check_training(joined, ScoreConfig(num_actors=1))
    with pytest.raises(UserError, match=r"train\.num_workers is 3, which needs 3 x \(1 CPU\), but the cluster has"):
        check_training(replace(joined, train=TrainConfig(num_workers=3)), ScoreConfig())


def test_recalls_are_beside_those_of_the_paper():
    ranks = Ranks(np.array([0, 4, 9, 10]), np.array([0, 0, 0, 99]))
    evaluation = Evaluation("shan-t2i", "test", 4, 4, [], [ranks])
    here = ["shan-t2i", "here", "25.0, 50.0, 75.0", "75.0, 75.0, 75.0", "375.0"]
    assert comparison_rows(evaluation, None) == [[*here, ""]]
    assert comparison_rows(evaluation, PAPER["f30k-1k"]["shan-t2i"]) == [
        [*here, "-103.3"],
        ["shan-t2i", "paper", "72.5, 92.3, 95.8", "53.6, 78.6, 85.5", "478.3", ""],
    ]


def test_settings_that_differ_from_the_papers_are_listed(tmp_path: Path):
    paper = TrainingSetup(ModelConfig(), TrainConfig(min_word_count=4))
    (vectors,) = settings_table(paper, paper).rows
    assert vectors[:2] == ["train.word_vectors", "none"]
    assert "513.8 with them" in vectors[2]
    assert "510.2" in vectors[2]
    operational = TrainConfig(min_word_count=4, num_workers=1, use_gpu=True, output=str(tmp_path), max_failures=9)
    assert settings_table(replace(paper, train=operational), paper).rows == [vectors]
    changed = TrainingSetup(
        ModelConfig(levels="l2l", text_encoder="hf", hf_model="bert"),
        TrainConfig(data_mode="stream", word_vectors=str(tmp_path / "v.txt")),
    )
    given, *others = settings_table(changed, paper).rows
    assert given[:2] == ["train.word_vectors", str(tmp_path / "v.txt")]
    assert others == [
        ["model.text_encoder", "hf", "gru"],
        ["model.hf_model", "bert", "none"],
        ["train.data_mode", "stream", "cache"],
        ["train.min_word_count", "1", "4"],
    ]
