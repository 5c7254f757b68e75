"""The model card: how to use a version of every kind of detector, what it was trained on, limits and licences."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.features.feature_set import FeatureSet
from pipelines.models.model_card import model_card, stored_as
from shan_model.vocabulary import tokenize
from tests.support.registered import embedded_detector, imported_features
from tests.support.small_models import model, small_set


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_set(tmp_path_factory.mktemp("features"), 12)


def card(features: FeatureSet, detector_tags: dict[str, str]) -> str:
    tags = {**features.lineage, "dataset": features.dataset, "run": "0123", **detector_tags}
    return model_card("m", 2, model(features), tags, features, ["It is good."])


def test_it_leads_with_one_line_for_images(features: FeatureSet):
    text = card(features, embedded_detector().tags)
    line = 'model = mlflow.pyfunc.load_model("models:/m/2")\nmodel.predict(pd.DataFrame({"image": ["photo.jpg"]'
    use = text.index(line)
    assert use < text.index("## Training data") < text.index("## Results\n\nIt is good.") < text.index("## Limits")
    assert "Weights of the detector: Apache-2.0 (SSDLite" in text
    assert "It uses at most 3 regions of an image" in text
    words = {word for caption in features.split("val").captions for word in tokenize(caption)}
    assert f"It knows {len(words)} words of the training captions; it does not distinguish others" in text
    assert "Each of `words` has word, known, region, weight, box, class." in text
    assert (
        "`rank`: image_row, caption_row, caption, rank, score; `explain`: score, S_L2L, S_G2L, S_G2G, words; " in text
    )


def test_it_states_the_training_data_without_a_path(features: FeatureSet):
    text = card(features, embedded_detector().tags)
    digest = features.index.feature_set[:12]
    assert "data set tiny (train 7 photos, 14 captions; val 2 photos, 4 captions; test 2 photos, 4 captions)" in text
    assert f"feature set `{digest}`, regions by detector `made-up` with fingerprint `made-up-0123`. Run `0123`" in text
    assert features.uri not in text
    assert stored_as(features) == digest


def test_a_version_of_other_features_has_no_counts(features: FeatureSet):
    tags = {**features.lineage, "feature_set": "f" * 64, "dataset": "tiny", "run": "0123"}
    text = model_card("m", 2, model(features), tags, features, [])
    assert "Split train of data set tiny, feature set `ffffffffffff`" in text


def test_a_version_of_imported_features_takes_regions(features: FeatureSet):
    text = card(features, imported_features().tags)
    assert 'model.predict(pd.DataFrame({"regions": [regions_RF], "caption"' in text
    assert "The version has no detector." in text
    assert '"image"' not in text


def test_a_detector_that_is_not_carried_needs_its_weights(features: FeatureSet):
    text = card(features, {"detector.name": "bottom_up", "detector.mode": "reference", "detector.licence": ""})
    assert "`load_model(..., model_config=...)` locates them" in text
    assert "Weights of the detector: not stated, see their origin." in text


def test_a_feature_set_of_a_bucket_is_named_by_its_uri(features: FeatureSet):
    class Bucket:
        uri = "s3://b/set"

    moved = replace(features, store=Bucket())  # type: ignore[arg-type]
    assert stored_as(moved) == f"s3://b/set@{features.index.feature_set[:12]}"


def test_the_code_of_the_card_runs(features: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import mlflow
    from PIL import Image

    from tests.support.registered import save_version, tiny_network

    folder = save_version(tmp_path / "version", tiny_network(), embedded_detector())
    Image.new("RGB", (40, 30), (200, 30, 30)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    code = card(features, embedded_detector().tags).split("```python\n")[1].split("```")[0]
    code = code.replace("models:/m/2", str(folder)).replace("model.predict(", "scores = model.predict(")
    found: dict[str, object] = {"mlflow": mlflow}
    exec(code, found)  # noqa: S102 - it is what the card states
    assert len(found["scores"]) == 1  # type: ignore[arg-type]
