"""Model configuration: the fields that define the network.

Choices that the paper leaves open are marked "(not stated in the paper)"; their defaults are those of related models.
"""

from dataclasses import dataclass, fields
from typing import Literal, get_args, get_origin

_WIDEST = 65_536
"""Largest width of a layer: a product of two such widths has 16 GiB, which is more than one matrix should have."""
_MOST_LAYERS = 100
TERN_HEADS = 4
"""Attention heads of a layer of TERN, among which it divides `joint_dim`."""
_LARGEST = 1e6
"""Largest inverse temperature, where the softmax of float32 affinities is one-hot, and largest factor of a level. 15
times 1e38 is infinite in float32."""
_SMALLEST_LSE_FACTOR = 1e-3
"""Below it the logarithm of the number of regions or words, divided by the factor, hides their similarities."""


@dataclass(frozen=True)
class ModelConfig:
    """Architecture and variant of the network (Ji, Chen, Wang, IJCAI 2021). Defaults are the paper's where it states
    them."""

    region_dim: int = 2048
    """Width F of a region feature. It must equal the feature width of the feature set."""
    joint_dim: int = 1024
    """Width D of the joint space of regions and words."""
    text_encoder: Literal["gru", "hf"] = "gru"
    """Text encoder: `gru` is the paper's, word vectors and a bidirectional GRU; `hf` is the one that `hf_model` names.

    The fields word_dim, fixed_word_dim and gru_layers apply to `gru` only.
    """
    hf_model: str = ""
    """Folder, or name on the Hugging Face hub, of a text encoder with safetensors weights (BERT, RoBERTa, DistilBERT,
    MPNet, ...)."""
    word_dim: int = 300
    """Width of the learnable word embeddings of the GRU."""
    fixed_word_dim: int = 0
    """Width of the pretrained word vectors that are concatenated to the learnable ones and not trained (the paper uses
    300); 0 without them. A training takes it from the file `train.word_vectors`."""
    gru_layers: int = 1
    """Number of layers of the bidirectional GRU (not stated in the paper)."""
    normalize: bool = True
    """Whether the projected regions v_i and the word features t_j are L2-normalised (not stated in the paper)."""
    variant: Literal["full", "t2i", "i2t"] = "full"
    """Directions of the alignment: `full` is both, `t2i` only the words query, `i2t` only the regions query."""
    levels: Literal["l2l", "l2l+g2l", "l2l+g2l+g2g"] = "l2l+g2l+g2g"
    """Alignment steps whose scores are summed, as in the paper's ablation."""
    affinity: Literal["bilinear", "cosine"] = "bilinear"
    """Affinity of Eq. 3: `bilinear` is the product of the projections, `cosine` normalises both first (not stated in
    the paper)."""
    affinity_init: Literal["identity", "xavier"] = "identity"
    """Initial projections of Eq. 3 (not stated in the paper). With `identity`, attention starts as in SCAN, by the
    similarity of v_i and t_j; with `xavier` (independent Xavier-uniform matrices) it starts unrelated to it."""
    temperature: float = 15.0
    """Inverse temperature lambda of Eq. 4 and 5: the factor before the softmax over words and over regions."""
    context_temperature: float = 1.0
    """Inverse temperature of Eq. 10 and 11: the factor before the softmax with which a context attends to words or to
    regions (the paper uses 1)."""
    l2l_weight: float = 0.3
    """Weight mu1 of Eq. 7, between 0 and 1: fraction of the region-queried direction in the local-to-local score."""
    g2l_weight: float = 0.5
    """Weight mu2 of Eq. 13, between 0 and 1: fraction of the image context in the global-to-local score."""
    g2l_scale: float = 1.0
    """Factor of the global-to-local score in the sum of Eq. 16 (the paper uses 1)."""
    g2g_scale: float = 1.0
    """Factor of the global-to-global score in the sum of Eq. 16 (the paper uses 1)."""
    l2l_pooling: Literal["mean", "sum"] = "mean"
    """Pooling of the cosines in Eq. 7. The paper's text describes an average, its formula prints a sum."""
    gate: Literal["vector", "scalar"] = "vector"
    """Gate of Eq. 8: `vector` is one value per channel, `scalar` one value per region or word (not stated in the
    paper)."""
    gate_per_level: bool = False
    """Whether the global-to-local and the global-to-global score have a gate of Eq. 8 each, and hence contexts and
    global vectors of their own. The paper has one gate for both."""
    matcher: Literal["shan", "vse++", "scan-t2i", "scan-i2t", "sgr", "tern"] = "shan"
    """Similarity function of photos and captions: `shan`, or a baseline.

    `vse++` is the cosine of mean vectors; in `scan-t2i` each word attends to the regions, in `scan-i2t` each region to
    the words. `sgr` is the similarity graph reasoning of SGRAF. `tern` is the cosine of vectors from transformer layers
    over the regions and over the words. The fields from `variant` to `gate_per_level` apply to `shan` only.
    """
    scan_pooling: Literal["mean", "lse"] = "mean"
    """Pooling of the relevance of words or regions in SCAN: average, or LogSumExp."""
    scan_lse_factor: float = 0.0
    """Factor lambda2 of SCAN's LogSumExp (Eq. 5 and 8). 0 is its published value for Flickr30K, 6 in `scan-t2i` and 5
    in `scan-i2t`; for COCO that of `scan-i2t` is 20."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field, its value, the constraint and the fix."""
        most = {"region_dim": _WIDEST, "joint_dim": _WIDEST, "word_dim": _WIDEST, "gru_layers": _MOST_LAYERS}
        for name, limit in most.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= limit:
                raise ValueError(f"model.{name} is {value!r}; it must be an integer of 1 to {limit}")
        if not isinstance(self.fixed_word_dim, int) or not 0 <= self.fixed_word_dim <= _WIDEST:
            raise ValueError(
                f"model.fixed_word_dim is {self.fixed_word_dim!r}; it must be the width of the word vectors, at most "
                f"{_WIDEST}, or 0 to disable them"
            )
        for field in fields(self):
            if get_origin(field.type) is Literal and getattr(self, field.name) not in get_args(field.type):
                choices = ", ".join(get_args(field.type))
                raise ValueError(f"model.{field.name} is {getattr(self, field.name)!r}; choose one of: {choices}")
        if self.matcher == "tern" and self.joint_dim % TERN_HEADS:
            raise ValueError(
                f"model.joint_dim is {self.joint_dim}; it must be a multiple of {TERN_HEADS} for model.matcher tern, "
                "whose attention heads divide it"
            )
        if (self.text_encoder == "hf") != bool(self.hf_model):
            raise ValueError(
                f"model.hf_model is {self.hf_model!r} and model.text_encoder is {self.text_encoder!r}; "
                "set model.hf_model to a folder or hub name if, and only if, model.text_encoder is hf"
            )
        if self.text_encoder == "hf" and self.fixed_word_dim:
            raise ValueError(
                f"model.fixed_word_dim is {self.fixed_word_dim}; word vectors are used by the GRU only, "
                "set it to 0 for model.text_encoder hf"
            )
        for name in ("temperature", "context_temperature", "g2l_scale", "g2g_scale"):
            if not 0 < getattr(self, name) <= _LARGEST:
                raise ValueError(
                    f"model.{name} is {getattr(self, name)}; it must be positive and at most {_LARGEST:g} "
                    f"(the paper uses {type(self).__dataclass_fields__[name].default:g})"
                )
        if self.scan_lse_factor != 0 and not _SMALLEST_LSE_FACTOR <= self.scan_lse_factor <= _LARGEST:
            raise ValueError(
                f"model.scan_lse_factor is {self.scan_lse_factor}; it must be between {_SMALLEST_LSE_FACTOR:g} and "
                f"{_LARGEST:g}, or 0 for the published value"
            )
        for name in ("l2l_weight", "g2l_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"model.{name} is {getattr(self, name)}; it must be between 0 and 1")
