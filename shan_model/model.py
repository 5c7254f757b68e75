"""SHAN: two encoders and the alignment, from region features and sentences to scores."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shan_model.baselines.scan import SCAN
from shan_model.baselines.vsepp import VSEPP
from shan_model.block_alignment import BlockAlignment
from shan_model.block_form import BlockForm
from shan_model.config import ModelConfig
from shan_model.encoders import ImageEncoder, TextEncoder
from shan_model.vocabulary import Vocabulary


def build_alignment(config: ModelConfig) -> BlockForm:
    """The matcher that `config.matcher` names."""
    if config.matcher == "shan":
        return BlockAlignment(config)
    return VSEPP() if config.matcher == "vse++" else SCAN(config)


class SHAN(nn.Module):
    """Step-Wise Hierarchical Alignment Network (IJCAI 2021). It owns its vocabulary, so it takes plain sentences."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.image_encoder = ImageEncoder(config)
        self.text_encoder = TextEncoder(len(vocabulary), config)
        self.alignment = build_alignment(config)

    def encode_photos(self, regions_BRF: Tensor) -> Tensor:
        """Region features B x R x F (any float type, any device) to B x R x D."""
        return self.image_encoder(regions_BRF.to(self.image_encoder.project.weight))

    def encode_captions(self, captions: Sequence[str]) -> list[Tensor]:
        """C sentences to C matrices W_c x D, `<start>` and `<end>` included."""
        device = self.text_encoder.embedding.weight.device
        return self.text_encoder([torch.tensor(self.vocabulary.encode(c), device=device) for c in captions])

    def forward(self, regions_BRF: Tensor, captions: Sequence[str]) -> Tensor:
        """Scores B x C of every photo with every caption (Eq. 16, or the baseline's)."""
        return self.alignment(self.encode_photos(regions_BRF), self.encode_captions(captions))
