"""Numbers that are not finite: named among weights, found per item."""

import pytest
import torch

from shan_model.finite import NotFiniteError, largest_magnitude, require_finite_weights


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_named_and_counted(bad: float):
    weights = {"good": torch.ones(3), "steps": torch.tensor([1]), "gate": torch.ones(2, 3)}
    require_finite_weights(weights)
    weights["gate"][1, 1:] = bad
    with pytest.raises(NotFiniteError, match=r"^2 of 6 numbers of the weights 'gate' are NaN or infinite"):
        require_finite_weights(weights)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_the_magnitude_of_an_item_is_as_finite_as_the_item(bad: float):
    large, small, absent = torch.full((4, 2, 3), -2.0), torch.ones(4, 2), torch.empty(4, 0)
    assert largest_magnitude([large, small, absent]).tolist() == [2, 2, 2, 2]
    large[1, 1, 2] = small[3, 0] = bad
    assert largest_magnitude([large, small, absent]).isfinite().tolist() == [True, False, True, False]
