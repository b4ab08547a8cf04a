"""Optimizers and learning-rate schedules that torch.optim does not have."""

from dlarch.optim.schedules import WarmupCosine

__all__ = ["WarmupCosine"]
