"""The scores of the baselines from their equations: float64 NumPy, one pair, a loop per region and word.

Written from the papers' equations alone and sharing nothing with `shan_model`: `v` (R, D) are the regions of one image,
`t` (W, D) the words of one caption. Those of SGR and TERN, which have parameters, are in
`sgr_oracle.py` and `tern_oracle.py`.
"""

import math

import numpy as np
import torch

from tests.support.oracle import average, cosine, softmax, weighted_sum
from tests.support.sgr_oracle import sgr_scores
from tests.support.tern_oracle import tern_scores

BASELINES = {
    "vse++": {"matcher": "vse++"},
    "t2i mean": {"matcher": "scan-t2i", "scan_pooling": "mean"},
    "t2i lse": {"matcher": "scan-t2i", "scan_pooling": "lse"},
    "i2t mean": {"matcher": "scan-i2t", "scan_pooling": "mean"},
    "i2t lse": {"matcher": "scan-i2t", "scan_pooling": "lse"},
    "sgr": {"matcher": "sgr"},
    "tern": {"matcher": "tern"},
}
"""Fields of `ModelConfig` for each baseline."""


def vsepp_score(v, t):
    """VSE++, Section 2.1, with means in the place of the paper's encoders."""
    f, g = average(list(v)), average(list(t))
    f, g = f / math.sqrt(np.dot(f, f)), g / math.sqrt(np.dot(g, g))
    return float(np.dot(f, g))


def clipped(x):
    return max(x, 0.0)


def share(x, others):
    """[x]_+ over the length of all [.]_+; the paper's 0 / 0 (none of them is positive) is 0."""
    length = math.sqrt(sum(clipped(other) ** 2 for other in others))
    return clipped(x) / length if length > 0 else 0.0


def i2t_attention(s, lambda1):
    """alpha_ij of SCAN: a row for every region, 1 over the words."""
    regions, words = range(len(s)), range(len(s[0]))
    s_bar = [[share(s[i][j], [s[other][j] for other in regions]) for j in words] for i in regions]
    return [softmax([lambda1 * s_bar[i][j] for j in words]) for i in regions]


def t2i_attention(s, lambda1):
    """alpha'_ij of SCAN, turned: a row for every word, 1 over the regions."""
    regions, words = range(len(s)), range(len(s[0]))
    s_bar = [[share(s[i][j], [s[i][other] for other in words]) for j in words] for i in regions]
    return [softmax([lambda1 * s_bar[i][j] for i in regions]) for j in words]


def similarities(v, t):
    """SCAN, Eq. 1."""
    return [[cosine(region, word) for word in t] for region in v]


def scan_score(v, t, direction, pooling, lambda2=None):
    """SCAN, Eq. 1 to 9, with the authors' constants for Flickr30K, or another lambda2."""
    s = similarities(v, t)
    if direction == "i2t":
        lambda2 = lambda2 or 5
        attended = [weighted_sum(alpha, t) for alpha in i2t_attention(s, lambda1=4)]
        relevance = [cosine(v[i], attended[i]) for i in range(len(v))]
    else:
        lambda2 = lambda2 or 6
        attended = [weighted_sum(alpha, v) for alpha in t2i_attention(s, lambda1=9)]
        relevance = [cosine(t[j], attended[j]) for j in range(len(t))]
    if pooling == "mean":
        return average(relevance)
    return math.log(sum(math.exp(lambda2 * r) for r in relevance)) / lambda2


def baseline_scores(fields, regions, words, weights=None):
    """Returns the scores of photos (R_k x D each) and captions (W_k x D each) by the baseline with these fields.

    `weights` are those of a baseline that has any, by name.
    """
    photos, captions = ([x.detach().double().numpy() for x in items] for items in (regions, words))
    if fields["matcher"] == "vse++":
        rows = [[vsepp_score(v, t) for t in captions] for v in photos]
    elif fields["matcher"] == "sgr":
        rows = sgr_scores(photos, captions, {name: x.detach().double().numpy() for name, x in weights.items()})
    elif fields["matcher"] == "tern":
        rows = tern_scores(photos, captions, {name: x.detach().double().numpy() for name, x in weights.items()})
    else:
        direction, pooling = fields["matcher"].removeprefix("scan-"), fields["scan_pooling"]
        lambda2 = fields.get("scan_lse_factor")
        rows = [[scan_score(v, t, direction, pooling, lambda2) for t in captions] for v in photos]
    return torch.as_tensor(rows, dtype=torch.float64)
