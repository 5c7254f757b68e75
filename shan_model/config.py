"""The choices that define a SHAN network. Everything marked [D] is ours where the paper is silent."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ModelConfig:
    """Shape and variant of the network (Ji, Chen, Wang, IJCAI 2021). Defaults are the paper's."""

    region_dim: int = 2048
    """F, width of a detector's region feature. It must equal the feature set's."""
    joint_dim: int = 1024
    """D, width of the space that regions and words share."""
    word_dim: int = 300
    """Width of the learnable word embedding that feeds the text encoder."""
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

    def __post_init__(self) -> None:
        """Raises ValueError naming the field and the fix."""
        for name in ("region_dim", "joint_dim", "word_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} is {getattr(self, name)}; it must be at least 1")
        if not self.temperature > 0:
            raise ValueError(f"model.temperature is {self.temperature}; it must be positive (the paper uses 15)")
        for name in ("l2l_weight", "g2l_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"model.{name} is {getattr(self, name)}; it is a share, between 0 and 1")
