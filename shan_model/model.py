"""The complete model: image encoder, text encoder and matcher, from region features and sentences to scores.

Shapes: B photos, C captions, R regions, F feature width, W words, D joint width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import torch
from torch import Tensor, nn

from shan_model.baselines.scan import SCAN
from shan_model.baselines.sgr import SGR
from shan_model.baselines.tern import TERN
from shan_model.baselines.vsepp import VSEPP
from shan_model.batched_alignment import BatchedAlignment
from shan_model.batched_matcher import BatchedMatcher
from shan_model.config import ModelConfig
from shan_model.encoders import GruEncoder, ImageEncoder, TextEncoder
from shan_model.hf_encoder import HuggingFaceEncoder
from shan_model.vocabulary import Vocabulary


def build_matcher(config: ModelConfig) -> BatchedMatcher:
    """Returns a new matcher of the kind that `config.matcher` names."""
    if config.matcher == "shan":
        return BatchedAlignment(config)
    if config.matcher == "sgr":
        return SGR(config)
    if config.matcher == "tern":
        return TERN(config)
    return VSEPP() if config.matcher == "vse++" else SCAN(config)


def build_text_encoder(config: ModelConfig, vocabulary: Vocabulary, files: Path | None) -> TextEncoder:
    """Returns a new text encoder as `config.text_encoder` names it, built from its saved `files` if given."""
    return GruEncoder(config, vocabulary) if config.text_encoder == "gru" else HuggingFaceEncoder(config, files)


class SHAN(nn.Module):
    """Step-Wise Hierarchical Alignment Network (IJCAI 2021). It owns its vocabulary and takes sentences as strings.

    `text_files` is the folder that `text_encoder.save_files` wrote. Without it, a Hugging Face encoder is loaded with
    its pretrained weights from `config.hf_model`.
    """

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary, text_files: Path | None = None) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.image_encoder = ImageEncoder(config)
        self.text_encoder = build_text_encoder(config, vocabulary, text_files)
        self.alignment = build_matcher(config)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.image_encoder.project.weight.device

    @overload
    def encode_photos(self, regions: Tensor) -> Tensor: ...

    @overload
    def encode_photos(self, regions: Sequence[Tensor]) -> list[Tensor]: ...

    def encode_photos(self, regions: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Encodes region features B x R x F to B x R x D, or R_b x F each to R_b x D each; any float type or device."""
        weight = self.image_encoder.project.weight
        if isinstance(regions, Tensor):
            return self.image_encoder(regions.to(weight))
        encoded = self.image_encoder(torch.cat(list(regions)).to(weight))
        return list(encoded.split([len(matrix) for matrix in regions]))

    def encode_captions(self, captions: Sequence[str]) -> Sequence[Tensor]:
        """Encodes C sentences to C matrices W_c x D, including the start and end tokens."""
        words: Sequence[Tensor] = self.text_encoder(captions)
        return words

    def forward(self, regions_BRF: Tensor, captions: Sequence[str]) -> Tensor:
        """Returns scores B x C of every photo with every caption (Eq. 16, or the baseline's score)."""
        return self.alignment(self.encode_photos(regions_BRF), self.encode_captions(captions))
