"""Padding of items: vectors of zeros behind the last vector of an item, and what keeps them out of its score.

Photos and captions are padded on GPUs only, to be scored with others of similar length (`batched_matcher.py`). A zero
vector adds nothing to a sum over vectors; a softmax over vectors and a mean have to leave it out. The padding of K
items, K x N, is 0 for a vector and -inf for a vector of padding; it is K x 0 if the items are not padded.

Shapes: K query items of N vectors, L key items; `pairs` stands for the leading axes of the pairs.
"""

from torch import Tensor

Subscripts = tuple[str, str, str]
"""Einsum subscripts of the leading axes of query items, of key items, and of their pairs."""


def unpadded(x_KND: Tensor) -> Tensor:
    """Returns the padding, K x 0, of items that are not padded."""
    return x_KND.new_empty(len(x_KND), 0)


def over_pairs(x: Tensor, subscripts: Subscripts) -> Tensor:
    """Returns a tensor of the query items (leading axis K) with the axes it needs to broadcast over the pairs."""
    query, _, pair = subscripts
    return x if len(pair) == 1 else x.unsqueeze(1 - pair.index(query))


def hide(logits: Tensor, padding_KN: Tensor, item: str, pair: str) -> Tensor:
    """Returns logits of a softmax over the last axis, the N vectors of an item, with -inf for padding.

    `logits` are pairs x N or pairs x M x N; `item` and `pair` are the einsum subscripts of the items and the pairs.
    """
    if not padding_KN.shape[1]:
        return logits
    added = over_pairs(padding_KN, (item, item, pair))
    return logits + (added if logits.dim() == added.dim() else added.unsqueeze(-2))


def mean_over_pairs(x: Tensor, padding_KN: Tensor, item: str, pair: str) -> Tensor:
    """Returns the mean (pairs) over the N vectors of an item of a tensor pairs x N that is 0 for padding."""
    if not padding_KN.shape[1]:
        return x.mean(dim=-1)
    return x.sum(dim=-1) / over_pairs((padding_KN == 0).sum(dim=-1), (item, item, pair))


def mean_vectors(x_KND: Tensor, padding_KN: Tensor) -> Tensor:
    """Returns the mean (K x D) of each item's vectors; vectors of padding are 0."""
    if not padding_KN.shape[1]:
        return x_KND.mean(dim=1)
    return x_KND.sum(dim=1) / (padding_KN == 0).sum(dim=1, keepdim=True)
