"""Numbers that are not finite: named among weights, marked per item."""

import pytest
import torch

from shan_model.finite import NotFiniteError, nan_unless_finite, require_finite_weights


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_named_and_counted(bad: float):
    weights = {"good": torch.ones(3), "steps": torch.tensor([1]), "gate": torch.ones(2, 3)}
    require_finite_weights(weights)
    weights["gate"][1, 1:] = bad
    with pytest.raises(NotFiniteError, match=r"^2 of 6 numbers of the weights 'gate' are NaN or infinite"):
        require_finite_weights(weights)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_items_that_are_not_finite_are_marked(bad: float):
    large, small, absent = torch.full((4, 2, 3), 3e38), torch.ones(4, 2), torch.empty(4, 0)
    assert nan_unless_finite([large, small, absent]).tolist() == [0, 0, 0, 0]
    large[1, 1, 2] = small[3, 0] = bad
    assert nan_unless_finite([large, small, absent]).isnan().tolist() == [False, True, False, True]
