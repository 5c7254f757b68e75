"""Hidden states of captions that a frozen text encoder computes once.

Shapes: W tokens of a caption, H width of the encoder.
"""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

CHUNK = 32
"""Captions that are encoded together when the first of them is used."""
Encode = Callable[[Sequence[str]], list[Tensor]]
"""Encodes captions to matrices W x H."""


class FrozenStates:
    """Keeps the hidden states of known captions, on the CPU.

    The last bits of a state depend on the captions that it is encoded with. So captions of equal length are in one
    chunk, whatever the order of their use: a resumed training has the states of an uninterrupted one. Which chunks are
    kept is also known from the start. The other captions are encoded with those of each call.
    """

    def __init__(self, tokens: Mapping[str, int], token_bytes: int, limit: int) -> None:
        """`tokens` are the known captions, each with its number of tokens of `token_bytes`; `limit` is in bytes."""
        self._states: dict[str, Tensor] = {}
        self._chunk_of: dict[str, list[str]] = {}
        captions = sorted(tokens, key=lambda caption: (tokens[caption], caption))
        for start in range(0, len(captions), CHUNK):
            chunk = captions[start : start + CHUNK]
            limit -= token_bytes * sum(tokens[caption] for caption in chunk)
            if limit < 0:
                break
            self._chunk_of |= dict.fromkeys(chunk, chunk)

    def of(self, captions: Sequence[str], encode: Encode) -> list[Tensor]:
        """Returns the states W x H of each caption, on the CPU. `encode` is that of the same weights in each call."""
        others = list(dict.fromkeys(caption for caption in captions if caption not in self._chunk_of))
        passing = dict(zip(others, encode(others), strict=True)) if others else {}
        for caption in captions:
            if caption not in self._states and (chunk := self._chunk_of.get(caption)):
                states = (states_WH.cpu().clone() for states_WH in encode(chunk))  # not views of the padded batch
                self._states |= dict(zip(chunk, states, strict=True))
        return [self._states[caption] if caption in self._states else passing[caption].cpu() for caption in captions]
