import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, root_mean_squared_error
from torch import nn
from torch.nn import functional as F  # noqa: N812

from dlarch.nn import OneHotLoss, PseudoHuberLoss, RMSELoss


def test_rmse_is_scikit_learns():
    outputs, targets = torch.randn(20, 1), torch.randn(20, 1)
    wanted = root_mean_squared_error(targets.numpy(), outputs.numpy())
    assert RMSELoss()(outputs, targets).item() == pytest.approx(wanted, rel=1e-5)


def test_rmse_has_a_gradient_where_all_is_right():
    outputs = torch.zeros(3, 1, requires_grad=True)
    RMSELoss()(outputs, torch.zeros(3, 1)).backward()
    assert outputs.grad.isfinite().all()


def test_pseudo_huber_is_quadratic_near_zero_and_linear_far_away():
    zero = torch.zeros(1)
    loss = PseudoHuberLoss(delta=2.0)
    assert loss(torch.tensor([0.01]), zero).item() == pytest.approx(0.01**2 / 2, rel=1e-2)
    far = loss(torch.tensor([1001.0]), zero) - loss(torch.tensor([1000.0]), zero)
    assert far.item() == pytest.approx(2.0, rel=1e-3)
    huber = F.huber_loss(torch.tensor([500.0]), zero, delta=2.0)
    assert loss(torch.tensor([500.0]), zero).item() == pytest.approx(huber.item(), rel=1e-2)


def test_binary_log_loss_of_the_classes_is_scikit_learns():
    torch.manual_seed(0)
    outputs, labels = torch.randn(9, 4), torch.arange(9) % 4
    wanted = np.mean(
        [log_loss(labels == k, outputs[:, k].sigmoid(), labels=[False, True]) for k in range(4)]
    )
    assert OneHotLoss()(outputs, labels).item() == pytest.approx(wanted, rel=1e-5)


def test_squared_error_on_classes_wants_one_at_the_label():
    right = F.one_hot(torch.tensor([2, 0]), 3).float()
    assert OneHotLoss(nn.MSELoss())(right, torch.tensor([2, 0])) == 0
