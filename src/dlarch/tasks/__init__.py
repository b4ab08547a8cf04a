"""What a training step is, per kind of problem."""

from dlarch.tasks.base import LossCallable, OptimizerCallable, SchedulerCallable, Task
from dlarch.tasks.translation import Translation, TranslationOutput
from dlarch.tasks.translator import DecoderOutput

__all__ = [
    "DecoderOutput",
    "LossCallable",
    "OptimizerCallable",
    "SchedulerCallable",
    "Task",
    "Translation",
    "TranslationOutput",
]
