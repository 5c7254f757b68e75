"""The choices that define a SHAN network. Everything marked [D] is ours where the paper is silent."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args, get_origin


@dataclass(frozen=True)
class ModelConfig:
    """Shape and variant of the network (Ji, Chen, Wang, IJCAI 2021). Defaults are the paper's."""

    region_dim: int = 2048
    """F, width of a detector's region feature. It must equal the feature set's."""
    joint_dim: int = 1024
    """D, width of the space that regions and words share."""
    text_encoder: Literal["gru", "hf"] = "gru"
    """`gru`: word vectors and a bidirectional GRU, as the paper; `hf`: the encoder that `hf_model` names.

    The fields `word_dim` to `gru_layers` do not concern `hf`.
    """
    hf_model: str = ""
    """A folder, or a name on the hub, of a text encoder with safetensors (BERT, RoBERTa, DistilBERT, MPNet, ...)."""
    word_dim: int = 300
    """Width of the learnable word embedding that feeds the GRU."""
    fixed_word_dim: int = 0
    """Width of the pretrained word vectors that stay fixed beside the learnable ones (the paper: 300); 0 is none."""
    gru_layers: int = 1
    """Layers of the bidirectional GRU [D]."""
    normalize: bool = True
    """L2-normalise projected regions and word features, v_i and t_j [D]."""
    variant: Literal["full", "t2i", "i2t"] = "full"
    """`full`: both directions; `t2i`: only the word-queried branch; `i2t`: only the region-queried branch."""
    levels: Literal["l2l", "l2l+g2l", "l2l+g2l+g2g"] = "l2l+g2l+g2g"
    """Alignment steps that enter the score (the ablation of the paper)."""
    affinity: Literal["bilinear", "cosine"] = "bilinear"
    """Eq. 3: `bilinear` is the plain product of the projections; `cosine` normalises both first [D]."""
    temperature: float = 15.0
    """lambda of Eq. 4 and 5, the factor before the softmax over words and over regions."""
    l2l_weight: float = 0.3
    """mu1 of Eq. 7, share of the region-queried branch in the local score, 0 to 1."""
    g2l_weight: float = 0.5
    """mu2 of Eq. 13, share of the image context in the global-to-local score, 0 to 1."""
    l2l_pooling: Literal["mean", "sum"] = "mean"
    """Eq. 7: the text of the paper says average, its formula prints a sum [D: mean]."""
    gate: Literal["vector", "scalar"] = "vector"
    """Eq. 8: one gate value per channel, or one per region and word [D: vector]."""
    matcher: Literal["shan", "vse++", "scan-t2i", "scan-i2t"] = "shan"
    """What scores photos with captions: `shan`, or a baseline, which `variant` to `gate` do not concern.

    `vse++`: cosine of pooled vectors; `scan-t2i`: every word attends the regions; `scan-i2t`: every region the words.
    """
    scan_pooling: Literal["mean", "lse"] = "mean"
    """How SCAN pools the relevance of its words or regions: average, or LogSumExp."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field and the fix."""
        for name in ("region_dim", "joint_dim", "word_dim", "gru_layers"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"model.{name} is {getattr(self, name)!r}; it must be a whole number, at least 1")
        if not isinstance(self.fixed_word_dim, int) or self.fixed_word_dim < 0:
            raise ValueError(
                f"model.fixed_word_dim is {self.fixed_word_dim!r}; it must be the width of the vectors, or 0 for none"
            )
        for field in fields(self):
            if get_origin(field.type) is Literal and getattr(self, field.name) not in get_args(field.type):
                choices = ", ".join(get_args(field.type))
                raise ValueError(f"model.{field.name} is {getattr(self, field.name)!r}; choose one of: {choices}")
        if (self.text_encoder == "hf") != bool(self.hf_model):
            raise ValueError(
                f"model.hf_model is {self.hf_model!r} with model.text_encoder {self.text_encoder}; "
                "an encoder of Hugging Face needs both: text_encoder hf, and hf_model its folder or name"
            )
        if self.text_encoder == "hf" and self.fixed_word_dim:
            raise ValueError(
                f"model.fixed_word_dim is {self.fixed_word_dim}; word vectors feed the GRU only, set it to 0 for hf"
            )
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"model.temperature is {self.temperature}; it must be positive (the paper uses 15)")
        for name in ("l2l_weight", "g2l_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"model.{name} is {getattr(self, name)}; it is a share, between 0 and 1")
