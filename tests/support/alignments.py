"""Matchers with random parameters (both implementations of SHAN's, and the baselines), random inputs, and gradients."""

import torch
from torch.nn.functional import normalize

from shan_model.alignment import Alignment
from shan_model.batched_alignment import BatchedAlignment
from shan_model.batched_matcher import BatchedMatcher
from shan_model.config import ModelConfig
from shan_model.model import build_matcher


def build_alignments(
    dtype: torch.dtype = torch.float64, width: int = 7, **fields
) -> tuple[Alignment, BatchedAlignment]:
    """Returns both implementations with the same random parameters, including biases."""
    torch.manual_seed(0)
    weights = {"l2l_weight": 0.2, "g2l_weight": 0.85, "g2l_scale": 0.4, "g2g_scale": 0.7}
    weights |= {"temperature": 4.0, "context_temperature": 3.0}
    config = ModelConfig(joint_dim=width, **(weights | fields))
    reference, batched = Alignment(config), BatchedAlignment(config)
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=2 / width**0.5)
    batched.load_state_dict(reference.state_dict())
    return reference.to(dtype), batched.to(dtype)


def build_baseline(fields: dict, dtype: torch.dtype = torch.float64, width: int = 16) -> BatchedMatcher:
    """Returns the baseline with these fields of ModelConfig; its weights, if any, are random, biases included."""
    torch.manual_seed(0)
    matcher = build_matcher(ModelConfig(joint_dim=width, **fields))
    for parameter in matcher.parameters():
        torch.nn.init.normal_(parameter, std=1 / width**0.5)
    return matcher.to(dtype)


def random_matrices(
    lengths: list[int], dtype: torch.dtype = torch.float64, width: int = 7, seed: int = 1
) -> list[torch.Tensor]:
    """Returns random unit vectors N_k x D as leaf tensors that require gradients."""
    draw = torch.Generator().manual_seed(seed)
    vectors = [normalize(torch.randn(n, width, generator=draw, dtype=torch.float64), dim=-1).to(dtype) for n in lengths]
    return [x.requires_grad_() for x in vectors]


def unnormalised_matrices(
    lengths: list[int], dtype: torch.dtype = torch.float64, width: int = 16, seed: int = 1
) -> list[torch.Tensor]:
    """Returns random vectors N_k x D of various norms, because the baselines do not rely on normalised encodings."""
    draw = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(n, width, generator=draw, dtype=torch.float64) for n in lengths]
    sizes = [torch.rand(n, 1, generator=draw, dtype=torch.float64) + 0.1 for n in lengths]
    return [(x * size).to(dtype).requires_grad_() for x, size in zip(drawn, sizes, strict=True)]


def reference_scores(reference: Alignment, regions: list[torch.Tensor], words: list[torch.Tensor]) -> torch.Tensor:
    """Returns the reference scores, computed photo by photo, so that photos may differ in regions."""
    return torch.cat([reference(photo[None], words) for photo in regions])


def gradients(module: torch.nn.Module, scores: torch.Tensor, inputs: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the gradients of a weighted sum of the scores, by parameter and input."""
    weights = torch.linspace(-1, 2, scores.numel(), dtype=scores.dtype).view(scores.shape)
    parameters = dict(module.named_parameters())
    found = torch.autograd.grad((scores * weights).sum(), [*parameters.values(), *inputs])
    return dict(zip([*parameters, *(f"input {n}" for n in range(len(inputs)))], found, strict=True))


def require_reference(
    reference: Alignment,
    batched: BatchedAlignment,
    regions: list[torch.Tensor],
    words: list[torch.Tensor],
    tolerance: float,
) -> None:
    """Checks that scores, with and without gradients, and gradients of the batched alignment equal the reference's."""
    expected, found = reference_scores(reference, regions, words), batched(regions, words)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        torch.testing.assert_close(batched(regions, words), expected, rtol=tolerance, atol=tolerance)
    expected_gradients = gradients(reference, expected, regions + words)
    for name, gradient in gradients(batched, found, regions + words).items():
        torch.testing.assert_close(
            gradient,
            expected_gradients[name],
            rtol=tolerance,
            atol=10 * tolerance,
            msg=lambda m, name=name: f"{name}: {m}",
        )
