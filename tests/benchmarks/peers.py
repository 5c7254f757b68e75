"""Peers that are not the reference implementation of this project."""

import torch
from torch import Tensor
from torch.nn import functional


def scan_loop(regions_BRD: Tensor, words: list[Tensor]) -> Tensor:
    """SCAN's word-to-region attention as its published code computes it: a loop over captions, all photos at once.

    Returns scores B x C. Source: Lee et al., ECCV 2018, Eq. 6 to 9 with LogSumExp; the same sequence of operations
    (expand, bmm, clipped norm, softmax, bmm, cosine).
    """
    columns = []
    for words_WD in words:
        query_BWD = words_WD.expand(len(regions_BRD), -1, -1).contiguous()
        attention_BRW = functional.leaky_relu(torch.bmm(regions_BRD, query_BWD.transpose(1, 2)), 0.1)
        attention_BRW = attention_BRW / (attention_BRW.pow(2).sum(2, keepdim=True).sqrt() + 1e-8)
        weights_BWR = (9 * attention_BRW.transpose(1, 2).contiguous()).softmax(dim=2)
        context_BWD = torch.bmm(regions_BRD.transpose(1, 2).contiguous(), weights_BWR.transpose(1, 2).contiguous())
        context_BWD = context_BWD.transpose(1, 2)
        norms = (query_BWD.norm(dim=2) * context_BWD.norm(dim=2)).clamp(min=1e-8)
        similarity_BW = (query_BWD * context_BWD).sum(dim=2) / norms
        columns.append((6 * similarity_BW).exp().sum(dim=1).log() / 6)
    return torch.stack(columns, dim=1)
