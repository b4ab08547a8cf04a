"""Images as rows of features: their pixels, or the codes that an autoencoder has learnt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from dlarch.batches import ImageBatch
from dlarch.errors import MismatchError, OptionError, did_you_mean
from dlarch.hub import AutoModel
from dlarch.tasks import ImageAutoencoder

ImageFeatures = Literal["pixels", "codes"]
"""What an image is to a baseline: its pixels, or the code of a trained autoencoder."""


def run_codes(
    data: Any, features: str | None, run: str | None
) -> Callable[[str], tuple[NDArray[np.float32], Any]]:
    """What gives the codes of a split, and its classes.

    Each number of the codes has mean 0 and deviation 1 over the training split, which is to be read
    first.

    Args:
        data: a data module of images that is set up.
        features: "codes", or None for it.
        run: run folder, checkpoint or pretrained folder of an autoencoder of images.

    Raises:
        OptionError: there are no such features, or there is no run.
        MismatchError: data or run are of another kind, or the images of another shape.
    """
    if data.batch_type is not ImageBatch:
        raise OptionError("features are for texts and images: leave them out.")
    if features not in (None, "codes"):
        known = get_args(ImageFeatures)
        raise OptionError(
            f"There are no features {features!r} of images: choose {' or '.join(known)}."
            f"{did_you_mean(features, known)}"
        )
    if run is None:
        raise OptionError("Say whose codes: --run RUN, the run of an autoencoder of images.")
    model = AutoModel.from_pretrained(run)
    if not isinstance(model, ImageAutoencoder):
        raise MismatchError(f"{run} is no autoencoder of images, so it has no codes.")
    theirs = tuple(model.hparams.image_shape)
    if theirs != data.spec.image_shape:
        raise MismatchError(
            f"{run} squeezes images of the shape {theirs}, the data have {data.spec.image_shape}: "
            "take the data that it was trained on."
        )
    scaler = StandardScaler()

    def read_split(split: str) -> tuple[NDArray[np.float32], Any]:
        codes, labels = codes_of(model, data, split)
        return scaler.fit_transform(codes) if split == "train" else scaler.transform(codes), labels

    return read_split


@torch.no_grad()
def codes_of(model: Any, data: Any, split: str) -> tuple[NDArray[np.float32], Any]:
    """Codes (n, D) of the images of a split, and their classes (n,)."""
    batches = list(data.in_order(split))
    codes = [model.encode(data.processor.to_unit(batch.image)).numpy() for batch in batches]
    return np.concatenate(codes), np.concatenate([batch.label.numpy() for batch in batches])
