"""The model card: decision, training data, tables of challenger and champion, and how to load the version."""

import json
import re
from datetime import UTC, datetime

import numpy as np

from pipelines.evaluation.criterion import Decision
from pipelines.evaluation.model_card import model_card, snapshot_uri
from pipelines.evaluation.results import Evaluation
from shan_model.metrics import Ranks
from shan_model.protocols import cut_folds
from tests.support.small_models import model, small_set

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def test_the_card_states_decision_data_results_and_loading(tmp_path):
    features = small_set(tmp_path)
    shan = model(features)
    lineage = {"dataset": "tiny", "run": "0123", "fingerprint": "f-1", "feature_set": "abcdefabcdef0123"}
    (fold,) = cut_folds(None, 20, np.arange(20))
    evaluations = [
        Evaluation(name, "val", 20, 20, [fold], [Ranks(np.full(20, rank), np.full(20, rank))])
        for name, rank in (("version 2", 0), ("version 1", 3))
    ]
    card = model_card("m", 2, shan, lineage, features, evaluations, Decision(True, "better (...)", {}), NOW)
    assert card.startswith("# m version 2\n\n")
    assert "Promoted to champion on 2026-01-02 03:04 UTC: better (...)." in card
    assert "Trained on: dataset tiny, run 0123, fingerprint f-1. Feature set `abcdefabcdef`." in card
    assert snapshot_uri(features) in card
    assert "**version 2 minus version 1**" in card
    assert "mlflow.pyfunc.load_model('models:/m/2')" in card
    assert json.loads(re.search(r"Config: `(.*)`", card)[1])["matcher"] == "vse++"
    rejected = model_card("m", 2, shan, lineage, features, evaluations[:1], Decision(False, "worse", {}), NOW)
    assert "Not promoted on 2026-01-02 03:04 UTC: worse." in rejected
    assert "minus" not in rejected
