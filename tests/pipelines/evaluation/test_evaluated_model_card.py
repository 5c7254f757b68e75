"""The model card of an evaluated version: decision, and tables of challenger and champion with intervals."""

from datetime import UTC, datetime

import numpy as np

from pipelines.evaluation.criterion import Decision
from pipelines.evaluation.evaluated_model_card import evaluated_model_card
from pipelines.evaluation.results import Evaluation
from shan_model.metrics import Ranks
from shan_model.protocols import cut_folds
from tests.support.small_models import model, small_set

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def test_the_card_states_decision_data_and_results(tmp_path):
    features = small_set(tmp_path)
    shan = model(features)
    lineage = {"dataset": "tiny", "run": "0123", "fingerprint": "f-1", "feature_set": "abcdefabcdef0123"}
    (fold,) = cut_folds(None, 20, np.arange(20))
    evaluations = [
        Evaluation(name, "val", 20, 20, [fold], [Ranks(np.full(20, rank), np.full(20, rank))])
        for name, rank in (("version 2", 0), ("version 1", 3))
    ]
    card = evaluated_model_card("m", 2, shan, lineage, features, evaluations, Decision(True, "better (...)", {}), NOW)
    assert card.startswith("# m version 2\n\n")
    assert "Promoted to champion on 2026-01-02 03:04 UTC: better (...)." in card
    assert f"Split `val` of data set tiny, feature set `{features.pinned_uri[-12:]}`, with 95 % intervals:" in card
    assert str(tmp_path) not in card
    assert "| version 2 | 100.0 (100.0 to 100.0) |" in card
    assert "| random baseline | 5.0 |" in card
    assert "**version 2 minus version 1**" in card
    assert card.index("load_model(") < card.index("Promoted to champion")
    rejected = evaluated_model_card("m", 2, shan, lineage, features, evaluations[:1], Decision(False, "worse", {}), NOW)
    assert "Not promoted on 2026-01-02 03:04 UTC: worse." in rejected
    assert "minus" not in rejected
