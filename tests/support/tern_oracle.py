"""TERN's vectors of photos and captions from its equations: float64 NumPy, one item, a loop per vector and head.

Written from the equations of the transformer encoder (Vaswani et al., 2017, Sections 3.1 to 3.3) and sharing nothing
with `shan_model`. `p` maps the names of the parameters to their values. Every operation also takes complex numbers, by
which `derivative` is exact: f(x + ih d) = f(x) + ih f'(x) d for an h so small that its square vanishes.
"""

import numpy as np

HEADS = 4
STEP = 1e-30


def softmax(x):
    exponentials = np.exp(x - x.real.max())
    return exponentials / exponentials.sum()


def layer_norm(x, scale, shift):
    centred = x - x.mean()
    return scale * centred / np.sqrt((centred * centred).mean() + 1e-5) + shift


def relu(x):
    return np.where(x.real > 0, x, 0)


def attention(x, p, name):
    """Section 3.2: multi-head self-attention of the vectors x (N, D) of an item, and its weights (N, HEADS, N)."""
    (w_q, w_k, w_v), (b_q, b_k, b_v) = np.split(p[f"{name}.in_proj_weight"], 3), np.split(p[f"{name}.in_proj_bias"], 3)
    queries, keys, values = ([w @ y + b for y in x] for w, b in ((w_q, b_q), (w_k, b_k), (w_v, b_v)))
    parts = np.split(np.arange(x.shape[1]), HEADS)
    outputs, all_weights = [], []
    for query in queries:
        heads = [softmax(np.array([np.dot(query[h], key[h]) for key in keys]) / np.sqrt(len(h))) for h in parts]
        mixed = [
            sum(weight * value[h] for weight, value in zip(weights, values, strict=True))
            for weights, h in zip(heads, parts, strict=True)
        ]
        outputs.append(p[f"{name}.out_proj.weight"] @ np.concatenate(mixed) + p[f"{name}.out_proj.bias"])
        all_weights.append(heads)
    return outputs, np.array(all_weights)


def encoder_layer(x, p, name):
    """Sections 3.1 and 3.3: attention and a feed-forward network, each added to its input and normalised."""
    outputs = []
    for vector, attended in zip(x, attention(x, p, f"{name}.self_attn")[0], strict=True):
        y = layer_norm(vector + attended, p[f"{name}.norm1.weight"], p[f"{name}.norm1.bias"])
        inner = relu(p[f"{name}.linear1.weight"] @ y + p[f"{name}.linear1.bias"])
        y = y + p[f"{name}.linear2.weight"] @ inner + p[f"{name}.linear2.bias"]
        outputs.append(layer_norm(y, p[f"{name}.norm2.weight"], p[f"{name}.norm2.bias"]))
    return np.array(outputs)


def first_of_length_one(x, p):
    """The first output of the two shared layers, normalised."""
    for layer in range(2):
        x = encoder_layer(x, p, f"shared_layers.layers.{layer}")
    return x[0] / np.sqrt((x[0] * x[0]).sum())


def photo_vector(v, p):
    """The output of I-CLS after four layers of the regions v (R, D) and the shared ones."""
    x = np.concatenate([p["photo_token"][None], v])
    for layer in range(4):
        x = encoder_layer(x, p, f"region_layers.layers.{layer}")
    return first_of_length_one(x, p)


def tern_scores(photos, captions, p):
    """Returns the scores of photos (R_k, D) with captions (W_k, D); T-CLS is the first vector of a caption."""
    f, g = [photo_vector(v, p) for v in photos], [first_of_length_one(t, p) for t in captions]
    return np.array([[np.dot(photo, caption) for caption in g] for photo in f])


def derivative(function, arrays, direction):
    """Returns the derivative of a function of a dictionary of arrays, along another one of some of their names."""
    moved = {name: x + 1j * STEP * direction[name] if name in direction else x for name, x in arrays.items()}
    return function(moved).imag / STEP
