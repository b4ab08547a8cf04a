import pytest
import torch

from dlarch.errors import OptionError
from dlarch.nn import ElasticNet


def test_the_penalty_goes_from_l2_to_l1():
    weights = [torch.tensor([[1.0, -2.0]]), torch.tensor([3.0])]
    assert ElasticNet(0.5, 0.0)(weights).item() == pytest.approx(0.5 * 14 / 2)
    assert ElasticNet(0.5, 1.0)(weights).item() == pytest.approx(0.5 * 6)
    assert ElasticNet(0.5, 0.25)(weights).item() == pytest.approx(0.5 * (0.25 * 6 + 0.75 * 7))
    assert ElasticNet(0.0, 0.5)(weights) is None


@pytest.mark.parametrize(("alpha", "ratio"), [(-0.1, 0.0), (0.1, -0.1), (0.1, 1.1)])
def test_what_cannot_be_is_refused(alpha, ratio):
    with pytest.raises(OptionError, match="must be 0"):
        ElasticNet(alpha, ratio)
