"""The sizes that the paper's evaluation has: 36 regions, captions of 8 to 20 words, D 1024, F 2048."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary

D, REGIONS, FEATURES = 1024, 36, 2048


def encoded(photos: int, captions: int) -> tuple[Tensor, list[Tensor]]:
    """Unit vectors in the place of encoded regions and words: B x R x D and C matrices W_c x D, W 8 to 20, mean 14."""
    draw = torch.Generator().manual_seed(0)
    regions_BRD = normalize(torch.randn(photos, REGIONS, D, generator=draw), dim=-1)
    lengths = [8 + n % 13 for n in range(captions)]
    return regions_BRD, [normalize(torch.randn(n, D, generator=draw), dim=-1) for n in lengths]


def sentences(count: int) -> list[str]:
    """Sentences of 8 to 20 words, `<start>` and `<end>` counted in."""
    draw = torch.Generator().manual_seed(1)
    return [" ".join(f"w{int(n)}" for n in torch.randint(0, 8000, (6 + k % 13,), generator=draw)) for k in range(count)]


def network(**fields: object) -> SHAN:
    """SHAN at full width with a vocabulary of 8,000 words, random weights."""
    torch.manual_seed(0)
    return SHAN(ModelConfig(**fields), Vocabulary.build(f"w{n}" for n in range(8000)))  # type: ignore[arg-type]
