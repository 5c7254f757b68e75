"""Scores selected pairs of photos and captions with the batched matcher, within a memory that the batch size bounds.

Shapes: N photos of a batch, C captions, P pairs, R regions, F feature width, D joint width.
"""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shan_model.batched_matcher import TILES, Group
from shan_model.model import SHAN

DENSE = 0.3
"""Fraction of the pairs of a block from which all its pairs are computed: a listed pair costs about three of them."""
KEPT_WORDS = 100
"""Encoded words that are kept, as a multiple of the batch size: about 8 captions for each photo of a batch."""


class PairScorer:
    """Scores batches of photos with captions.

    At most `batch_size` captions are encoded and prepared at a time; captions of similar length share a batch. Encoded
    captions are kept for the next batches of photos, the latest ones, up to `KEPT_WORDS * batch_size` words.
    """

    def __init__(self, shan: SHAN, captions: Sequence[str], batch_size: int, matmul_dtype: torch.dtype | None) -> None:
        self.shan, self._captions, self._batch_size, self._dtype = shan, captions, batch_size, matmul_dtype
        self._lengths = np.array([len(shan.text_encoder.tokens(caption)) for caption in captions], dtype=np.int64)
        self._prepared: tuple[bytes, list[Group]] = (b"", [])
        self._kept: dict[int, Tensor] = {}
        self._kept_batches: deque[list[int]] = deque()
        self._kept_words = 0

    def encode(self, photos: Sequence[NDArray[np.floating]]) -> Tensor | list[Tensor]:
        """Encodes the region features R x F of N photos to N x R x D, or to one R x D each if R differs."""
        device = self.shan.device
        tensors, step = [torch.from_numpy(np.array(x_RF)).to(device) for x_RF in photos], TILES[device.type].photos
        tiles = [tensors[start : start + step] for start in range(0, len(tensors), step)]
        if len({len(tensor) for tensor in tensors}) == 1:
            return torch.cat([self.shan.encode_photos(torch.stack(tile)) for tile in tiles])
        return [encoded for tile in tiles for encoded in self.shan.encode_photos(tile)]

    def words(self, captions: Sequence[int]) -> Sequence[Tensor]:
        """Encodes captions, given by their positions, to W x D each, or returns the kept encodings."""
        if new := [caption for caption in captions if caption not in self._kept]:
            encoded = list(self.shan.encode_captions([self._captions[caption] for caption in new]))
            words_TD = torch.cat(encoded)  # without the padding of the encoder
            self._kept |= zip(new, words_TD.split([len(words_WD) for words_WD in encoded]), strict=True)
            self._kept_batches.append(new)
            self._kept_words += len(words_TD)
        found = [self._kept[caption] for caption in captions]
        while self._kept_words > KEPT_WORDS * self._batch_size:  # a batch at a time, which is one block of memory
            self._kept_words -= sum(len(self._kept.pop(caption)) for caption in self._kept_batches.popleft())
        return found

    def pairs(
        self, photos: Tensor | list[Tensor], photo_of_pair_P: NDArray[np.int64], caption_of_pair_P: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Returns the scores of pairs of encoded photos and captions, given by their positions."""
        pairs_U2, pair_of_P = np.unique(
            np.stack([photo_of_pair_P, caption_of_pair_P], axis=1), axis=0, return_inverse=True
        )
        scores_U = np.empty(len(pairs_U2), np.float32)
        prepared = self.shan.alignment.photo_groups(photos)
        for chunk in self._chunks(np.unique(pairs_U2[:, 1])):
            column_of = np.full(len(self._captions), -1)
            column_of[chunk] = np.arange(len(chunk))
            selected = np.flatnonzero(column_of[pairs_U2[:, 1]] >= 0)
            rows, columns = pairs_U2[selected, 0], column_of[pairs_U2[selected, 1]]
            groups = self._groups(chunk)
            if len(selected) >= DENSE * len(photos) * len(chunk):
                scores = self.shan.alignment.score_block(prepared, groups, self._dtype)[rows, columns]
            else:
                scores = self.shan.alignment.score_list(prepared, groups, rows, columns, self._dtype)
            scores_U[selected] = scores.float().cpu().numpy()
        return scores_U[pair_of_P.reshape(-1)]

    def block(self, photos: Tensor | list[Tensor]) -> NDArray[np.float32]:
        """Returns the scores N x C of encoded photos with all captions."""
        scores_NC = np.empty((len(photos), len(self._captions)), np.float32)
        prepared = self.shan.alignment.photo_groups(photos)
        for chunk in self._chunks(np.arange(len(self._captions))):
            block = self.shan.alignment.score_block(prepared, self._groups(chunk), self._dtype)
            scores_NC[:, chunk] = block.float().cpu().numpy()
        return scores_NC

    def _chunks(self, captions: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Divides captions, by length, into batches."""
        by_length = captions[np.argsort(self._lengths[captions], kind="stable")]
        yield from (by_length[at : at + self._batch_size] for at in range(0, len(by_length), self._batch_size))

    def _groups(self, chunk: NDArray[np.int64]) -> list[Group]:
        """Returns the prepared captions of a batch; those of the last call are kept."""
        if self._prepared[0] != chunk.tobytes():
            self._prepared = chunk.tobytes(), self.shan.alignment.caption_groups(self.words(chunk.tolist()))
        return self._prepared[1]
