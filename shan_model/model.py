"""SHAN: two encoders and the alignment, from region features and sentences to scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import torch
from torch import Tensor, nn

from shan_model.baselines.scan import SCAN
from shan_model.baselines.vsepp import VSEPP
from shan_model.batched_alignment import BatchedAlignment
from shan_model.batched_matcher import BatchedMatcher
from shan_model.config import ModelConfig
from shan_model.encoders import GruEncoder, ImageEncoder, TextEncoder
from shan_model.hf_encoder import HuggingFaceEncoder
from shan_model.vocabulary import Vocabulary


def build_alignment(config: ModelConfig) -> BatchedMatcher:
    """The matcher that `config.matcher` names."""
    if config.matcher == "shan":
        return BatchedAlignment(config)
    return VSEPP() if config.matcher == "vse++" else SCAN(config)


def build_text_encoder(config: ModelConfig, vocabulary: Vocabulary, files: Path | None) -> TextEncoder:
    """The text encoder that `config.text_encoder` names, from its own saved `files` if given."""
    return GruEncoder(config, vocabulary) if config.text_encoder == "gru" else HuggingFaceEncoder(config, files)


class SHAN(nn.Module):
    """Step-Wise Hierarchical Alignment Network (IJCAI 2021). It owns its vocabulary, so it takes plain sentences.

    `text_files` is the folder that `text_encoder.save_files` filled; without it an encoder of Hugging Face comes, with
    its pretrained weights, from where `config.hf_model` says.
    """

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary, text_files: Path | None = None) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.image_encoder = ImageEncoder(config)
        self.text_encoder = build_text_encoder(config, vocabulary, text_files)
        self.alignment = build_alignment(config)

    @overload
    def encode_photos(self, regions: Tensor) -> Tensor: ...

    @overload
    def encode_photos(self, regions: Sequence[Tensor]) -> list[Tensor]: ...

    def encode_photos(self, regions: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Region features B x R x F to B x R x D, or R_b x F each to R_b x D each; any float type and device."""
        weight = self.image_encoder.project.weight
        if isinstance(regions, Tensor):
            return self.image_encoder(regions.to(weight))
        encoded = self.image_encoder(torch.cat(list(regions)).to(weight))
        return list(encoded.split([len(matrix) for matrix in regions]))

    def encode_captions(self, captions: Sequence[str]) -> list[Tensor]:
        """C sentences to C matrices W_c x D, `<start>` and `<end>` (or what stands for them) included."""
        words: list[Tensor] = self.text_encoder(captions)
        return words

    def forward(self, regions_BRF: Tensor, captions: Sequence[str]) -> Tensor:
        """Scores B x C of every photo with every caption (Eq. 16, or the baseline's)."""
        return self.alignment(self.encode_photos(regions_BRF), self.encode_captions(captions))
