"""Tests of matrices of different heights in one tensor."""

import pytest
import torch

from shan_model.ragged import Ragged

LENGTHS = [3, 1, 4]


@pytest.fixture
def matrices() -> list[torch.Tensor]:
    return [torch.randn(n, 2, dtype=torch.float64, requires_grad=True) for n in LENGTHS]


@pytest.fixture
def with_gaps() -> Ragged:
    return Ragged(torch.arange(24.0).view(12, 2), [0, 4, 8], LENGTHS)


def test_it_is_a_sequence_of_the_matrices(matrices, with_gaps):
    ragged = Ragged.of(matrices)
    assert Ragged.of(ragged) is ragged
    assert len(ragged) == 3
    for found in (list(ragged), [ragged[k] for k in range(3)]):
        assert all(map(torch.equal, found, matrices))
    assert [part.tolist() for part in with_gaps] == [with_gaps[k].tolist() for k in range(3)]
    assert [part.tolist() for part in with_gaps[1:]] == [with_gaps[k].tolist() for k in (1, 2)]
    assert with_gaps.to(torch.float64)[1].dtype == torch.float64


def test_selected_matrices_are_padded_with_zeros(matrices):
    stacked, padding = Ragged.of(matrices).padded([2, 1])
    assert torch.equal(stacked[0], matrices[2])
    assert torch.equal(stacked[1, :1], matrices[1])
    assert not stacked[1, 1:].any()
    assert padding.tolist() == [[0] * 4, [0] + [-torch.inf] * 3]


def test_equal_heights_have_no_padding(with_gaps):
    stacked, padding = with_gaps.padded([2])
    assert stacked.tolist() == [with_gaps[2].tolist()]
    assert padding.shape == (1, 0)


def test_numbers_behind_a_matrix_stay_behind(with_gaps):
    with_gaps.rows_TD[5:8] = torch.nan
    stacked, _ = with_gaps.padded([0, 1])
    assert torch.isfinite(stacked).all()


def test_gradients_reach_every_matrix_once(matrices):
    ragged = Ragged.of(matrices)
    (sum(part.sum() for part in ragged) + 2 * ragged.padded([0, 1])[0].sum()).backward()
    assert [float(matrix.grad.unique()) for matrix in matrices] == [3, 3, 1]
