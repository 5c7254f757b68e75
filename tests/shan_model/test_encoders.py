"""Tests of the encoders against numpy implementations of Eq. 1 and 2."""

import numpy as np
import pytest
import torch

from shan_model.config import ModelConfig
from shan_model.encoders import GruEncoder, ImageEncoder
from shan_model.vocabulary import Vocabulary

WORDS = Vocabulary.build(["f", "e f", "d e f", "c d e f", "b c d e f", "a b c d e f"])
CAPTIONS = ["e", "a, b c d unheard F", "", "f f"]


def image_encoder() -> ImageEncoder:
    torch.manual_seed(0)
    encoder = ImageEncoder(ModelConfig(region_dim=6, joint_dim=4)).double()
    torch.nn.init.normal_(encoder.project.bias)
    return encoder


def text_encoder(fixed_word_dim: int = 0) -> GruEncoder:
    torch.manual_seed(0)
    return GruEncoder(ModelConfig(word_dim=3, joint_dim=4, fixed_word_dim=fixed_word_dim), WORDS).double()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(inputs, weights, suffix):
    """Returns one direction of a GRU, computed word by word; gates are ordered reset, update, new."""
    from_input, from_state = weights["gru.weight_ih_l0" + suffix], weights["gru.weight_hh_l0" + suffix]
    input_bias, state_bias = weights["gru.bias_ih_l0" + suffix], weights["gru.bias_hh_l0" + suffix]
    state, states = np.zeros(from_state.shape[1]), []
    for x in inputs:
        x_reset, x_update, x_new = np.split(from_input @ x + input_bias, 3)
        h_reset, h_update, h_new = np.split(from_state @ state + state_bias, 3)
        update = sigmoid(x_update + h_update)
        new = np.tanh(x_new + sigmoid(x_reset + h_reset) * h_new)
        state = (1 - update) * new + update * state
        states.append(state)
    return states


def words_by_hand(encoder, ids, fixed=None):
    weights = {name: value.numpy() for name, value in encoder.state_dict().items()}
    embedded = [weights["embedding.weight"][i] for i in ids]
    if fixed is not None:
        embedded = [np.concatenate([fixed[i], learnable]) for i, learnable in zip(ids, embedded, strict=True)]
    forward = gru(embedded, weights, "")
    backward = gru(embedded[::-1], weights, "_reverse")[::-1]
    means = [(f + b) / 2 for f, b in zip(forward, backward, strict=True)]
    return np.array([m / np.sqrt((m**2).sum()) for m in means])


def test_regions_follow_equation_1():
    encoder, regions = image_encoder(), torch.randn(2, 3, 6, dtype=torch.float64)
    weight, bias = encoder.project.weight.detach().numpy(), encoder.project.bias.detach().numpy()
    encoded = encoder(regions).detach().numpy()
    for image in range(2):
        for region in range(3):
            v = weight @ regions[image, region].numpy() + bias
            np.testing.assert_allclose(encoded[image, region], v / np.linalg.norm(v), rtol=1e-12)


def test_words_follow_equation_2_without_padding():
    encoder = text_encoder()
    with torch.no_grad():
        encoded = encoder(CAPTIONS)
    for caption, words in zip(CAPTIONS, encoded, strict=True):
        ids = WORDS.encode(caption)
        assert words.shape == (len(ids), 4)
        np.testing.assert_allclose(words.numpy(), words_by_hand(encoder, ids), rtol=1e-10)


def test_word_vector_joins_fixed_and_learnable_parts():
    encoder, fixed = text_encoder(fixed_word_dim=2), np.random.default_rng(1).normal(size=(len(WORDS), 2))
    encoder.set_fixed(fixed)
    with torch.no_grad():
        for caption, words in zip(CAPTIONS, encoder(CAPTIONS), strict=True):
            by_hand = words_by_hand(encoder, WORDS.encode(caption), fixed)
            np.testing.assert_allclose(words.numpy(), by_hand, rtol=1e-10)


def test_training_updates_the_learnable_vectors_only():
    encoder, fixed = text_encoder(fixed_word_dim=2), np.random.default_rng(1).normal(size=(len(WORDS), 2))
    encoder.set_fixed(fixed)
    learnable = encoder.embedding.weight.detach().clone()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1)
    sum(words.sum() for words in encoder(CAPTIONS)).backward()
    optimizer.step()
    assert np.array_equal(encoder.state_dict()["fixed"], fixed)
    assert not torch.equal(encoder.embedding.weight, learnable)


@pytest.mark.parametrize("shape", [(10, 3), (9, 2)])
def test_fixed_vectors_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=rf"shape \({shape[0]}, {shape[1]}\), expected \(10, 2\); set model\.fixed"):
        text_encoder(fixed_word_dim=2).set_fixed(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match=r"expected \(10, 0\); set model\.fixed_word_dim"):
        text_encoder().set_fixed(np.zeros(shape, np.float32)[:10])


def test_there_is_one_token_per_row():
    encoder = text_encoder()
    tokens = [encoder.tokens(caption) for caption in CAPTIONS]
    assert tokens[1:3] == [["<start>", "a", "b", "c", "d", "unheard", "f", "<end>"], ["<start>", "<end>"]]
    assert [len(words) for words in tokens] == [len(words) for words in encoder(CAPTIONS)]
    assert encoder.known(CAPTIONS[1]) == [word != "unheard" for word in tokens[1]]


def test_encodings_do_not_depend_on_longer_captions_in_the_batch():
    encoder = text_encoder()
    for caption, words in zip(CAPTIONS, encoder(CAPTIONS), strict=True):
        torch.testing.assert_close(words, encoder([caption])[0], rtol=0, atol=1e-14)


def test_padding_gets_no_gradient():
    encoder = text_encoder()
    sum(words.sum() for words in encoder(CAPTIONS)).backward()
    assert not encoder.embedding.weight.grad[0].any()


def test_every_vector_has_norm_1():
    words = text_encoder()(CAPTIONS)
    for x in (*words, image_encoder()(100 * torch.randn(2, 5, 6, dtype=torch.float64))):
        torch.testing.assert_close(x.norm(dim=-1), torch.ones(x.shape[:-1], dtype=x.dtype))


def test_initial_values_follow_the_decisions():
    torch.manual_seed(0)
    image, text = (
        ImageEncoder(ModelConfig(region_dim=300, joint_dim=100)),
        GruEncoder(ModelConfig(word_dim=50, joint_dim=20), Vocabulary.build(f"w{n}" for n in range(496))),
    )
    bound = (6 / 400) ** 0.5
    assert 0.99 * bound < image.project.weight.abs().max() <= bound
    assert image.project.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not image.project.bias.any()
    assert 0.099 < text.embedding.weight.abs().max() <= 0.1
    assert text.embedding.weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.02)
    assert text.gru.num_layers == 1
    assert text.gru.bidirectional


def test_normalisation_can_be_disabled() -> None:
    config = ModelConfig(region_dim=6, joint_dim=4, word_dim=3, normalize=False, gru_layers=2)
    regions_BRF = torch.randn(2, 3, 6)
    image = ImageEncoder(config)
    assert torch.equal(image(regions_BRF), image.project(regions_BRF))
    text = GruEncoder(config, WORDS)
    assert text.gru.num_layers == 2
    (words_WD,) = text(["b"])
    forward_WD, backward_WD = text.gru(text.embedding(torch.tensor([WORDS.encode("b")])))[0][0].chunk(2, dim=-1)
    assert torch.allclose(words_WD, (forward_WD + backward_WD) / 2)
