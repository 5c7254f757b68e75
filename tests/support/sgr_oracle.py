"""The score of SGRAF's SGR from its equations: NumPy, one pair, a loop per region, word and node.

Written from the equations and the published code alone, without its BatchNorm, its dropout and the biases of W, W_in,
W_out and W_r; it shares nothing with `shan_model`. `v` (R, D) are the regions of one image, `t` (W, D) the words of one
caption, `p` the weights by their names in a model.

All numbers may be complex, and lengths are sqrt(sum x^2): for a small h, the imaginary part of score(x + ih d) / h is
the derivative of the score in the direction d, without the cancellation of finite differences.
"""

import numpy as np


def length(x):
    return np.sqrt(np.sum(x * x))


def unit(x):
    return x / length(x) if np.any(x) else x


def softmax(logits):
    top = max(logits, key=lambda x: x.real)
    powers = [np.exp(x - top) for x in logits]
    return [x / sum(powers) for x in powers]


def mixture(weights, vectors):
    return sum(weight * vector for weight, vector in zip(weights, vectors, strict=True))


def rectified(x, slope=0.0):
    return np.where(x.real > 0, x, slope * x)


def word_attention(v, t):
    """The weights of the regions for each word."""
    clipped = [[rectified(np.dot(region, word), 0.1) for word in t] for region in v]
    normalised = [row / length(np.array(row)) if np.any(row) else row for row in clipped]
    return [softmax([9 * normalised[i][j] for i in range(len(v))]) for j in range(len(t))]


def global_vector(vectors, p, name):
    """The self-attention of the published code."""
    mean = sum(vectors) / len(vectors)
    query = np.tanh(p[f"{name}.embed_mean.weight"] @ mean + p[f"{name}.embed_mean.bias"])
    logits = []
    for vector in vectors:
        key = np.tanh(p[f"{name}.embed_vectors.weight"] @ vector + p[f"{name}.embed_vectors.bias"])
        logits.append(np.dot(p[f"{name}.attend.weight"][0], key * query))
    return unit(mixture(softmax(logits), vectors))


def similarity(x, y, w):
    """s(x, y; W)."""
    return unit(w @ (x - y) ** 2)


def sgr_score(v, t, p):
    """The score of one image and one caption."""
    attended = [unit(mixture(alpha, v)) for alpha in word_attention(v, t)]
    whole = global_vector(v, p, "pool_regions"), global_vector(t, p, "pool_words")
    nodes = [similarity(*whole, p["compare_globals.weight"])]
    nodes += [similarity(a, word, p["compare_locals.weight"]) for a, word in zip(attended, t, strict=True)]
    for n in range(3):
        w_in, w_out, w_r = (p[f"steps.{n}.{name}.weight"] for name in ("incoming", "outgoing", "update"))
        to, of = [w_in @ s for s in nodes], [w_out @ s for s in nodes]
        edges = [softmax([np.dot(a, b) for b in of]) for a in to]
        nodes = [rectified(w_r @ mixture(e, nodes)) for e in edges]
    return 1 / (1 + np.exp(-(np.dot(p["evaluate.weight"][0], nodes[0]) + p["evaluate.bias"][0])))


def sgr_scores(photos, captions, p):
    """The scores of photos (R_k, D) and captions (W_k, D)."""
    return np.array([[sgr_score(v, t, p) for t in captions] for v in photos])
