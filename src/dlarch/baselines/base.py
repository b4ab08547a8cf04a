"""What a baseline is, the arrays it sees of a data module, and how it is scored."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from dlarch.baselines.codes import ImageFeatures, run_codes
from dlarch.baselines.texts import Features, read_texts, text_features
from dlarch.batches import ImageBatch, TableBatch, TextBatch
from dlarch.errors import MismatchError, OptionError

Arrays = tuple[NDArray[np.float32], NDArray[Any]]
"""Features (n, F), and classes (n,) or numbers (n, O)."""


class Baseline(ABC):
    """A method that is no network: an estimator of scikit-learn with settings that usually work.

    Attributes:
        batch_type: of the data that it can learn from.
        predicts: "classes" or "numbers".
    """

    batch_type: ClassVar[tuple[type, ...]] = (ImageBatch, TableBatch)
    predicts: ClassVar[Literal["classes", "numbers"]]

    @abstractmethod
    def estimator(self, seed: int) -> Any:
        """A fresh estimator; `seed` decides what is random in it."""


@dataclass(frozen=True)
class Scores:
    """What a baseline came to.

    Attributes:
        metrics: by tag, as a network on the same data has them: "val/accuracy", "test/rmse".
        seconds: of fitting.
    """

    metrics: dict[str, float]
    seconds: float


Split = Literal["train", "validation", "test"]


def arrays(data: Any, split: Split) -> Arrays:
    """A split as networks see it, normalised and without augmentation, a row for each example."""
    batches = list(data.in_order(split))
    features = np.concatenate([batch[0].flatten(1).numpy() for batch in batches])
    return features, np.concatenate([batch[1].numpy() for batch in batches])


def score(
    baseline: Baseline,
    data: Any,
    seed: int = 1,
    features: Features | ImageFeatures | None = None,
    vectors: str | None = None,
    run: str | None = None,
) -> Scores:
    """Fit a baseline on the training split, and score the others.

    Args:
        baseline: what to fit.
        data: a data module that is set up.
        seed: of what is random in the baseline.
        features: what texts are turned into, see `dlarch.baselines.texts.TextFeatures`; or of
            images "pixels" or "codes".
        vectors: file of word vectors, for features that are means of vectors.
        run: of the autoencoder whose codes they are; run folder, checkpoint, or pretrained folder.

    Raises:
        MismatchError: it predicts numbers and the data have classes, or the other way round; or
            the run is of another kind than the data.
        OptionError: features are asked for that the data cannot be turned into.
    """
    classes = data.spec.num_classes is not None
    if classes != (baseline.predicts == "classes"):
        raise MismatchError(
            f"{type(baseline).__name__} predicts {baseline.predicts}, which these data do not "
            f"have: take a baseline that predicts {'classes' if classes else 'numbers'}."
        )
    texts = data.batch_type is TextBatch
    read = _reader(data, features, vectors, run, seed)
    inputs, targets = read("train")
    estimator = baseline.estimator(seed)
    started = time.perf_counter()
    estimator.fit(inputs, targets if classes else np.squeeze(targets, 1))
    seconds = time.perf_counter() - started
    metrics: dict[str, float] = {}
    splits: tuple[tuple[str, Split], ...] = (("val", "validation"), ("test", "test"))
    for tag, split in splits:
        inputs, targets = read(split)
        found = estimator.predict(inputs)
        if classes:
            metrics[f"{tag}/accuracy"] = float((found == targets).mean())
            if texts:
                recalls = [(found == k)[targets == k].mean() for k in np.unique(targets)]
                metrics[f"{tag}/macro_recall"] = float(np.mean(recalls))
        else:
            errors = (found.reshape(targets.shape) - targets) * np.asarray(
                data.processor.target_std
            )
            metrics[f"{tag}/rmse"] = float(np.sqrt((errors**2).mean()))
            metrics[f"{tag}/mae"] = float(np.abs(errors).mean())
    return Scores(metrics, seconds)


def _reader(
    data: Any, features: str | None, vectors: str | None, run: str | None, seed: int
) -> Callable[[Split], tuple[Any, Any]]:
    """What gives features and targets of a split; the training split is to be read first."""
    texts = data.batch_type is TextBatch
    if texts:
        if run is not None:
            raise OptionError("A run gives codes of images, and these are texts: leave it out.")
        make = text_features(data, cast(Features | None, features), vectors, seed)

        def read_split(split: Split) -> tuple[Any, Any]:
            rows, labels = read_texts(data, split)
            return make.fit(rows, labels) if split == "train" else make.transform(rows), labels

        return read_split
    if vectors is not None:
        raise OptionError("vectors are for texts: leave them out.")
    if features is None and run is None:
        return partial(arrays, data)
    if features == "pixels" and data.batch_type is ImageBatch:
        return partial(arrays, data)
    return run_codes(data, features, run)
