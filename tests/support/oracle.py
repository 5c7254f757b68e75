"""Equations 3 to 16 of SHAN, computed literally: float64 NumPy, one pair, a loop per region and word.

Written from the equations alone and sharing nothing with `shan_model`. `p` is a plain dict of arrays:

    region_projection, word_projection (D, D)    W~_v and W~_t of Eq. 3
    region_gate, word_gate (D or 1, 2D)          W_g of Eq. 8 on [v_i ; t*_i] and on [t_j ; v*_j]
    region_gate_bias, word_gate_bias (D or 1)    b_g of Eq. 8; with two gates, that of G2G follows that of G2L
    region_pool, word_pool (D,)                  w^_v and w^_t of Eq. 9
"""

import math

import numpy as np


def cosine(a, b):
    length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / length


def softmax(logits):
    top = max(logits)
    powers = [math.exp(x - top) for x in logits]
    return [x / sum(powers) for x in powers]


def weighted_sum(weights, vectors):
    total = np.zeros(len(vectors[0]))
    for weight, vector in zip(weights, vectors, strict=True):
        total = total + weight * vector
    return total


def average(values):
    return sum(values) / len(values)


def affinity(v, t, p, kind):
    """Eq. 3, `A[i][j]`."""
    a = [[0.0] * len(t) for _ in v]
    for i in range(len(v)):
        for j in range(len(t)):
            region, word = p["region_projection"] @ v[i], p["word_projection"] @ t[j]
            a[i][j] = cosine(region, word) if kind == "cosine" else float(np.dot(region, word))
    return a


def fuse(own, attended, weight, bias):
    """Eq. 8 for one region or word."""
    gate = 1.0 / (1.0 + np.exp(-(weight @ np.concatenate([own, attended]) + bias)))
    return gate * own + (1.0 - gate) * attended


def context(own, attended, weight, bias, pool):
    """Eq. 8 and 9: v_c from V and T*, or t_c from T and V*."""
    fused = [fuse(a, b, weight, bias) for a, b in zip(own, attended, strict=True)]
    return weighted_sum(softmax([float(np.dot(pool, x)) for x in fused]), fused)


def attend_to_locals(c, local, temperature):
    """Eq. 10 and 11: cosine, with a temperature of 1 in the paper."""
    return weighted_sum(softmax([temperature * cosine(c, x) for x in local]), local)


def contexts(own, attended, other, p, side, gates, temperature):
    """Eq. 8 to 11 for G2L and for G2G: (v_c, t*_c) or (t_c, v*_c)."""
    found = []
    parameters = np.split(p[f"{side}_gate"], gates), np.split(p[f"{side}_gate_bias"], gates)
    for weight, bias in zip(*parameters, strict=True):
        c = context(own, attended, weight, bias, p[f"{side}_pool"])
        found.append((c, attend_to_locals(c, other, temperature)))
    return found[0], found[-1]


def pair_score(
    v,
    t,
    p,
    *,
    variant="full",
    levels=("l2l", "g2l", "g2g"),
    affinity_kind="dot",
    l2l_pooling="mean",
    temperature=15.0,
    mu1=0.3,
    mu2=0.5,
    scales=(1.0, 1.0),
    context_temperature=1.0,
    gates=1,
):
    """Eq. 16 for the regions `v` (R, D) of one image and the words `t` (W, D) of one caption.

    The paper has neither `scales`, the factors of S_G2L and S_G2G, nor `context_temperature`, that of Eq. 10 and 11.
    G2L and G2G share one of its `gates`, or have one each.
    """
    v, t = np.asarray(v, np.float64), np.asarray(t, np.float64)
    pooled = {"mean": average, "sum": sum}[l2l_pooling]
    a = affinity(v, t, p, affinity_kind)
    by_region = variant in ("full", "i2t")
    by_word = variant in ("full", "t2i")

    l2l_region = l2l_word = g2l_region = g2l_word = 0.0
    v_g, t_g = weighted_sum([1 / len(v)] * len(v), v), weighted_sum([1 / len(t)] * len(t), t)
    if by_region:
        t_star = [weighted_sum(softmax([temperature * a[i][j] for j in range(len(t))]), t) for i in range(len(v))]
        l2l_region = pooled([cosine(v[i], t_star[i]) for i in range(len(v))])
        if "g2l" in levels:
            for_g2l, for_g2g = contexts(v, t_star, t, p, "region", gates, context_temperature)
            g2l_region, v_g = cosine(*for_g2l), sum(for_g2g)
    if by_word:
        v_star = [weighted_sum(softmax([temperature * a[i][j] for i in range(len(v))]), v) for j in range(len(t))]
        l2l_word = pooled([cosine(t[j], v_star[j]) for j in range(len(t))])
        if "g2l" in levels:
            for_g2l, for_g2g = contexts(t, v_star, v, p, "word", gates, context_temperature)
            g2l_word, t_g = cosine(*for_g2l), sum(for_g2g)

    both = variant == "full"
    score = mu1 * l2l_region + (1 - mu1) * l2l_word if both else l2l_region + l2l_word
    if "g2l" in levels:
        score += scales[0] * (mu2 * g2l_region + (1 - mu2) * g2l_word if both else g2l_region + g2l_word)
    if "g2g" in levels:
        score += scales[1] * cosine(v_g, t_g)
    return score
