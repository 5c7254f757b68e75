"""Eq. 1 and 2 against numpy written by hand."""

import numpy as np
import pytest
import torch

from shan_model.config import ModelConfig
from shan_model.encoders import ImageEncoder, TextEncoder

CAPTIONS = [[2, 5, 3], [2, 4, 6, 7, 8, 9, 3], [2, 3], [1]]


def image_encoder() -> ImageEncoder:
    torch.manual_seed(0)
    encoder = ImageEncoder(ModelConfig(region_dim=6, joint_dim=4)).double()
    torch.nn.init.normal_(encoder.project.bias)
    return encoder


def text_encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(10, ModelConfig(word_dim=3, joint_dim=4)).double()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(inputs, weights, suffix):
    """One direction of a GRU, one word at a time; the gates lie in the order reset, update, new."""
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


def words_by_hand(encoder, ids):
    weights = {name: value.numpy() for name, value in encoder.state_dict().items()}
    embedded = [weights["embedding.weight"][i] for i in ids]
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


def test_words_follow_equation_2_both_directions_at_their_true_length():
    encoder = text_encoder()
    with torch.no_grad():
        encoded = encoder([torch.tensor(ids) for ids in CAPTIONS])
    for ids, words in zip(CAPTIONS, encoded, strict=True):
        assert words.shape == (len(ids), 4)
        np.testing.assert_allclose(words.numpy(), words_by_hand(encoder, ids), rtol=1e-10)


def test_a_caption_is_encoded_the_same_alone_and_beside_longer_ones():
    encoder = text_encoder()
    together = encoder([torch.tensor(ids) for ids in CAPTIONS])
    for ids, words in zip(CAPTIONS, together, strict=True):
        torch.testing.assert_close(words, encoder([torch.tensor(ids)])[0], rtol=0, atol=1e-14)


def test_padding_gets_no_gradient():
    encoder = text_encoder()
    sum(words.sum() for words in encoder([torch.tensor(ids) for ids in CAPTIONS])).backward()
    assert not encoder.embedding.weight.grad[0].any()


def test_every_vector_has_unit_length():
    words = text_encoder()([torch.tensor(ids) for ids in CAPTIONS])
    for x in (*words, image_encoder()(100 * torch.randn(2, 5, 6, dtype=torch.float64))):
        torch.testing.assert_close(x.norm(dim=-1), torch.ones(x.shape[:-1], dtype=x.dtype))


def test_initialisation_is_as_decided():
    torch.manual_seed(0)
    image, text = (
        ImageEncoder(ModelConfig(region_dim=300, joint_dim=100)),
        TextEncoder(500, ModelConfig(word_dim=50, joint_dim=20)),
    )
    bound = (6 / 400) ** 0.5
    assert 0.99 * bound < image.project.weight.abs().max() <= bound
    assert image.project.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not image.project.bias.any()
    assert 0.099 < text.embedding.weight.abs().max() <= 0.1
    assert text.embedding.weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.02)
    assert text.gru.num_layers == 1
    assert text.gru.bidirectional


def test_normalisation_is_a_switch() -> None:
    config = ModelConfig(region_dim=6, joint_dim=4, word_dim=3, normalize=False, gru_layers=2)
    regions_BRF = torch.randn(2, 3, 6)
    image = ImageEncoder(config)
    assert torch.equal(image(regions_BRF), image.project(regions_BRF))
    text = TextEncoder(10, config)
    assert text.gru.num_layers == 2
    (words_WD,) = text([torch.tensor([2, 5, 3])])
    forward_WD, backward_WD = text.gru(text.embedding(torch.tensor([[2, 5, 3]])))[0][0].chunk(2, dim=-1)
    assert torch.allclose(words_WD, (forward_WD + backward_WD) / 2)
