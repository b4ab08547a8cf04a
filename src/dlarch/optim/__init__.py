"""Optimizers written out, for reading, and learning-rate schedules that torch does not have."""

from dlarch.optim.adam import Adam, Adamax, AdamW, NAdam
from dlarch.optim.adaptive import Adadelta, Adagrad, RMSprop
from dlarch.optim.calm import CalmAdam
from dlarch.optim.gradient_descent import SGD
from dlarch.optim.schedules import WarmupCosine, WarmupInverseSqrt

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "CalmAdam",
    "NAdam",
    "RMSprop",
    "WarmupCosine",
    "WarmupInverseSqrt",
]
