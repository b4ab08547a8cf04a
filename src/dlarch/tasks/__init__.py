"""What a training step is, per kind of problem."""

from dlarch.tasks.base import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    Task,
)
from dlarch.tasks.examples import training_batches
from dlarch.tasks.supervised import Prediction, Supervised
from dlarch.tasks.translation import Translation, TranslationOutput
from dlarch.tasks.translator import DecoderOutput

__all__ = [
    "DecoderOutput",
    "InitializerCallable",
    "LossCallable",
    "OptimizerCallable",
    "Prediction",
    "SchedulerCallable",
    "Supervised",
    "Task",
    "Translation",
    "TranslationOutput",
    "training_batches",
]
