"""Adam with little momentum, for two networks that play against each other."""

from __future__ import annotations

from torch import optim
from torch.optim.optimizer import ParamsT


class CalmAdam(optim.Adam):
    """Torch's Adam, whose two shares are arguments of their own, and that keeps less momentum.

    What a generator ran after a moment ago is no longer where it was: with the usual share of 0.9
    it circles around its aim (1511.06434). Single numbers can be written in a default that a
    recipe shows, which a pair cannot.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        beta1: share of the running mean of gradients that is kept.
        beta2: the same of their squares.
    """

    def __init__(
        self, params: ParamsT, lr: float = 2e-4, beta1: float = 0.5, beta2: float = 0.999
    ) -> None:
        super().__init__(params, lr=lr, betas=(beta1, beta2))
