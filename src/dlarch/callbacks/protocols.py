"""What a task offers to the callbacks, and where callbacks may put what they show."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.seed import isolate_rng
from numpy.typing import NDArray
from torch import Tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TranslationSample:
    """One validation example and what the model makes of it now.

    Attributes:
        source: the sentence as it was written.
        reference: the right translation, as text.
        translation: the model's, as text.
        exact: whether it is the reference, as far as the vocabulary can write it.
        source_tokens: the S tokens that the model read.
        target_tokens: the T tokens that it produced, EOS included where reached.
        attention: (T, S), or (layers, heads, T, S); each row sums to 1. None without attention.
    """

    source: str
    reference: str
    translation: str
    exact: bool
    source_tokens: list[str]
    target_tokens: list[str]
    attention: Tensor | None = None


@dataclass(frozen=True)
class WeighedText:
    """A validation text, what the model takes it for, and how much it looked at each piece.

    Attributes:
        pieces: the text as the model reads it, so that it can be written by joining them.
        weights: of each piece; they add up to 1.
        label: its class.
        predicted: the class that it was taken for.
        probability: that the model gave to that class.
    """

    pieces: list[str]
    weights: list[float]
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Mistake:
    """A validation image that was taken for another class.

    Attributes:
        pixels: (H, W, C), uint8.
        label: its class.
        predicted: the class that it was taken for.
        probability: that the model gave to that class.
    """

    pixels: NDArray[np.uint8]
    label: str
    predicted: str
    probability: float


@runtime_checkable
class OffersTranslations(Protocol):
    """A task that translates examples chosen once, at setup."""

    def translation_samples(self, count: int) -> list[TranslationSample]:
        """Translate the first `count` (or fewer) of the chosen examples; the same at each call."""
        ...


@runtime_checkable
class WeighsWords(Protocol):
    """A classifier of texts that can say how much it looked at each token."""

    def word_weights(self, tokens: Tensor) -> Tensor:
        """Weights (B, T) of token ids (B, T); they add up to 1, and are 0 on padding."""
        ...


@runtime_checkable
class OffersWeighedTexts(Protocol):
    """A task that reads texts chosen once and says where it looked."""

    def weighed_texts(self, count: int) -> list[WeighedText]:
        """Read the first `count` (or fewer) of the chosen texts; the same at each call."""
        ...


@runtime_checkable
class OffersClasses(Protocol):
    """A task whose outputs are classes, or numbers if it does not classify.

    Attributes:
        processor: what reads the data, or None.
    """

    processor: Any

    @property
    def classifies(self) -> bool:
        """Whether the outputs are logits of classes."""
        ...

    def class_names(self) -> list[str]:
        """Names of the classes in the order of the labels."""
        ...


def shows(trainer: Trainer) -> bool:
    """Whether a validation that has just ended is one to show: in a fit, on rank zero."""
    return (
        trainer.is_global_zero
        and trainer.state.fn == TrainerFn.FITTING
        and not trainer.sanity_checking
    )


def translation_samples(module: LightningModule, count: int) -> list[TranslationSample]:
    """At most `count` samples of a task that offers them, else none; random states are kept."""
    if not isinstance(module, OffersTranslations):
        return []
    with torch.no_grad(), isolate_rng(include_cuda=module.device.type == "cuda"):
        return module.translation_samples(count)[:count]


def tensorboard_writers(trainer: Trainer) -> list[Any]:
    """The summary writers of the trainer's TensorBoard loggers; other loggers show no pictures."""
    return [each.experiment for each in trainer.loggers if isinstance(each, TensorBoardLogger)]


def run_folder(trainer: Trainer) -> Path | None:
    """Where files of this run belong: `default_root_dir`, if somebody chose a local one.

    None where it is only Lightning's default (the working directory), a URL, or a fast_dev_run.
    """
    root = str(trainer.default_root_dir)
    if "://" in root or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    folder = Path(root)
    return None if folder.resolve() == Path.cwd() else folder


@contextmanager
def no_failure(what: str) -> Iterator[None]:
    """A picture that cannot be written is a warning, not the end of a long training."""
    try:
        yield
    except OSError as error:
        logger.warning("Could not write %s: %s", what, error)
