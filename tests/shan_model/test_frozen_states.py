"""Hidden states that are computed once; the encoder here marks them with the captions of their batch."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from shan_model import frozen_states
from shan_model.frozen_states import FrozenStates

TOKENS = {"a": 1, "b b": 2, "c c": 2, "d d d": 3, "e": 1, "f f f": 3}


class Encoder:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, captions: Sequence[str]) -> list[Tensor]:
        self.batches.append(list(captions))
        number = float(hash(tuple(captions)) % 1000)
        return [torch.full((3, 4), number)[: TOKENS[caption]] for caption in captions]


@pytest.fixture(autouse=True)
def chunks_of_two(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frozen_states, "CHUNK", 2)


def test_states_do_not_depend_on_the_order_of_use():
    first, second = FrozenStates(TOKENS, 16, 2**20), FrozenStates(dict(reversed(TOKENS.items())), 16, 2**20)
    encode = Encoder()
    one = {caption: first.of([caption], encode)[0] for caption in TOKENS}
    other = dict(zip(reversed(TOKENS), second.of(list(reversed(TOKENS)), encode), strict=True))
    for caption, states_WH in one.items():
        assert states_WH.shape == (TOKENS[caption], 4)
        assert torch.equal(states_WH, other[caption]), caption
        assert states_WH.untyped_storage().nbytes() == 16 * TOKENS[caption]  # without the padding of its batch


def test_each_caption_is_encoded_once():
    states, encode = FrozenStates(TOKENS, 16, 2**20), Encoder()
    for _ in range(3):
        states.of(["a", "d d d", "a"], encode)
    assert encode.batches == [["a", "e"], ["d d d", "f f f"]]


def test_captions_beyond_the_limit_are_encoded_in_each_call():
    states, encode = FrozenStates(TOKENS, 16, 16 * (1 + 1 + 2 + 2)), Encoder()
    for _ in range(2):
        found = states.of(["f f f", "c c", "f f f", "d d d"], encode)
        assert [len(states_WH) for states_WH in found] == [3, 2, 3, 3]
    assert encode.batches == [["f f f", "d d d"], ["b b", "c c"], ["f f f", "d d d"]]
