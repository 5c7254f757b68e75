"""The model bundle: exact round trips, no pickle, and errors for files that do not match."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from shan_model.bundle import CONFIG, FORMAT, VOCABULARY, WEIGHTS, ModelFormatError, load_bundle, save_bundle
from shan_model.config import ModelConfig
from shan_model.finite import NotFiniteError
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.support import ROOT

CAPTIONS = ["Ein Mädchen läuft", "Собака бежит", "犬が走る", "it isn't \u2028 \U00010330"]


def build(**fields) -> SHAN:
    torch.manual_seed(0)
    config = ModelConfig(region_dim=12, joint_dim=8, word_dim=6, **fields)
    return SHAN(config, Vocabulary.build(CAPTIONS))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"variant": "t2i", "gate": "scalar"},
        {"variant": "i2t", "levels": "l2l", "temperature": 9.5, "l2l_weight": 0.1},
    ],
)
def test_round_trip_gives_the_same_bits(fields, tmp_path):
    model, regions = build(**fields), torch.randn(2, 3, 12)
    save_bundle(model, tmp_path / "new" / "bundle")
    again = load_bundle(tmp_path / "new" / "bundle")
    assert again.config == model.config
    assert again.vocabulary == model.vocabulary
    assert not again.training
    with torch.no_grad():
        assert torch.equal(model.eval()(regions, CAPTIONS), again(regions, CAPTIONS))


def test_a_bundle_of_version_0_2_gives_the_recorded_scores():
    """The files are never written again: later releases have to read them."""
    fixture = ROOT / "tests" / "fixtures" / "0.2" / "model"
    regions_NRF = torch.from_numpy(np.load(fixture / "regions.npy").astype(np.float32))
    captions = json.loads((fixture / "captions.json").read_text(encoding="utf-8"))
    with torch.no_grad():
        scores_NC = load_bundle(fixture / "bundle")(regions_NRF, captions)
    np.testing.assert_allclose(scores_NC, np.load(fixture / "scores.npy"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_non_finite_weights_are_neither_saved_nor_loaded(bad, tmp_path):
    model = build()
    save_bundle(model, tmp_path / "good")
    model.text_encoder.gru.weight_hh_l0.data[3, 2] = bad
    with pytest.raises(NotFiniteError, match=r"1 of 192 numbers of the weights 'text_encoder\.gru\.weight_hh_l0'"):
        save_bundle(model, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
    save_file(dict(model.state_dict()), tmp_path / "good" / WEIGHTS)  # as a version wrote that did not check
    with pytest.raises(NotFiniteError, match=r"'text_encoder\.gru\.weight_hh_l0' are NaN or infinite"):
        load_bundle(tmp_path / "good")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, r"config\.json has no format version; the model predates version 0\.2, train it again"),
        ("shan-model/9", r"config\.json has the format 'shan-model/9', this release reads 'shan-model/1'; upgrade"),
    ],
)
def test_another_format_version_is_an_error_that_names_the_fix(found, message, tmp_path):
    save_bundle(build(), tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text(encoding="utf-8"))
    assert config.pop("format") == FORMAT
    (tmp_path / CONFIG).write_text(json.dumps(config if found is None else {"format": found, **config}))
    with pytest.raises(ModelFormatError, match=message):
        load_bundle(tmp_path)


def test_a_config_field_that_the_bundle_lacks_takes_its_default(tmp_path):
    save_bundle(build(), tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text(encoding="utf-8"))
    del config["scan_pooling"]
    (tmp_path / CONFIG).write_text(json.dumps(config))
    assert load_bundle(tmp_path).config == build().config


def test_saving_again_replaces_the_older_model(tmp_path):
    save_bundle(build(), tmp_path)
    save_bundle(build(variant="t2i"), tmp_path)
    assert load_bundle(tmp_path).config.variant == "t2i"


def test_files_hold_no_pickle(tmp_path):
    save_bundle(build(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {WEIGHTS, CONFIG, VOCABULARY}
    words = json.loads((tmp_path / VOCABULARY).read_text(encoding="utf-8"))
    assert {"собака", "犬", "mädchen", "isn't"} <= set(words)
    weights = (tmp_path / WEIGHTS).read_bytes()  # safetensors: length of the header, header in JSON, plain numbers
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    assert set(header) - {"__metadata__"} == set(build().state_dict())


def test_weights_that_share_one_buffer_are_saved(tmp_path):
    """On a GPU, cuDNN makes the GRU's weights views of one buffer."""
    model = build()
    parameters = list(model.text_encoder.gru.parameters())
    buffer = torch.cat([p.detach().flatten() for p in parameters])
    for p, piece in zip(parameters, buffer.split([p.numel() for p in parameters]), strict=True):
        p.data = piece.view(p.shape)
    save_bundle(model, tmp_path)
    for name, value in load_bundle(tmp_path).state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def edit_weights(folder, change):
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w.pop("alignment.image_branch.gate.bias"), "alignment.image_branch.gate.bias"),
        (lambda w: w.update(surplus=torch.zeros(2)), "surplus"),
        (lambda w: w.update({"image_encoder.project.bias": torch.zeros(9)}), "image_encoder.project.bias"),
    ],
    ids=["missing", "surplus", "shape"],
)
def test_mismatched_weights_error_names_them(change, named, tmp_path):
    save_bundle(build(), tmp_path)
    edit_weights(tmp_path, change)
    with pytest.raises(RuntimeError, match=named):
        load_bundle(tmp_path)


def test_a_config_of_another_variant_does_not_match_the_weights(tmp_path):
    save_bundle(build(), tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text(encoding="utf-8")) | {"variant": "t2i"}
    (tmp_path / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(RuntimeError, match="image_branch"):
        load_bundle(tmp_path)


def test_a_vocabulary_of_another_length_is_refused(tmp_path):
    save_bundle(build(), tmp_path)
    words = json.loads((tmp_path / VOCABULARY).read_text(encoding="utf-8"))
    (tmp_path / VOCABULARY).write_text(json.dumps(words[:-1]), encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"text_encoder\.embedding\.weight"):
        load_bundle(tmp_path)


def test_invalid_config_field_error_names_the_field(tmp_path):
    save_bundle(build(), tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text(encoding="utf-8"))
    (tmp_path / CONFIG).write_text(json.dumps(config | {"gate": "vectr"}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"model\.gate is 'vectr'"):
        load_bundle(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps(config | {"gates": "vector"}), encoding="utf-8")
    with pytest.raises(TypeError, match="gates"):
        load_bundle(tmp_path)
