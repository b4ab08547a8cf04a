"""Losses that torch.nn does not have; each a mean over the batch."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class RMSELoss(nn.Module):
    r"""Root of the mean squared error, $\sqrt{\mathrm{mean}\,(\hat y - y)^2}$, in units of y."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs and targets of one shape to a scalar."""
        return F.mse_loss(outputs, targets).clamp_min(1e-12).sqrt()


class PseudoHuberLoss(nn.Module):
    r"""A smooth Huber loss, $\delta^2 (\sqrt{1 + ((\hat y - y) / \delta)^2} - 1)$.

    Args:
        delta: error around which the loss goes over from quadratic to linear.
    """

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        self.delta = delta

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs and targets of one shape to a scalar."""
        error = (outputs - targets) / self.delta
        return ((1 + error.square()).sqrt() - 1).mean() * self.delta**2


class OneHotLoss(nn.Module):
    r"""A loss of numbers on classes: the target of K outputs is 1 at the label, else 0.

    With `torch.nn.BCEWithLogitsLoss` it is the binary log loss of K yes-or-no questions, with
    `torch.nn.MSELoss` the Brier score of the raw outputs.

    Args:
        loss: called with outputs (B, K) and targets (B, K).
    """

    def __init__(self, loss: nn.Module | None = None) -> None:
        super().__init__()
        self.loss = nn.BCEWithLogitsLoss() if loss is None else loss

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Outputs (B, K) and labels (B,) to a scalar."""
        targets = F.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
        loss: Tensor = self.loss(outputs, targets)
        return loss
