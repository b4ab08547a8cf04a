"""A classifier of images that looks at made ones: their classes, their distance from real ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dlarch import hub
from dlarch.callbacks.features import last_linear
from dlarch.errors import MismatchError
from dlarch.nn import watched
from dlarch.processing import ImageProcessor


class Judgement(NamedTuple):
    """What a classifier sees in images.

    Attributes:
        features: (B, F), what its last layer reads.
        probabilities: (B, K), of its classes.
    """

    features: Tensor
    probabilities: Tensor


class Judge:
    """A trained classifier of images, which is no part of the network that it judges.

    Args:
        where: a run folder, checkpoint, pretrained folder or Hub id.
        image_shape: (C, H, W) of the images that it is to see.
        class_names: of the data, in the order of the labels; empty where they are unknown.

    Raises:
        CheckpointError: there is no such model.
        MismatchError: it classifies no images, others, or by other classes.
    """

    def __init__(
        self, where: str, image_shape: tuple[int, int, int], class_names: list[str]
    ) -> None:
        self.model: Any = hub.AutoModel.from_pretrained(where).requires_grad_(False)
        processor = self.model.processor
        layer = last_linear(self.model)
        if not isinstance(processor, ImageProcessor) or layer is None:
            raise MismatchError(
                f"The judge {where} is no classifier of images that ends with a linear layer: give "
                "the run of a model such as cnn as --model.judge."
            )
        if not getattr(self.model, "classifies", False):
            raise MismatchError(f"The judge {where} sorts no images into classes: give another.")
        self.processor: ImageProcessor = processor
        if tuple(processor.image_shape) != tuple(image_shape):
            raise MismatchError(
                f"The judge {where} reads images of shape {tuple(processor.image_shape)}, the data "
                f"have {tuple(image_shape)}: give a judge that was trained on such data."
            )
        if class_names and processor.class_names != class_names:
            raise MismatchError(
                f"The judge {where} knows the classes {', '.join(processor.class_names)}, the data "
                f"have {', '.join(class_names)}: give a judge that was trained on such data."
            )
        self.class_names = list(processor.class_names)
        self._layer: nn.Linear = layer

    @torch.no_grad()
    def see(self, images: Tensor) -> Judgement:
        """Judge images (B, C, H, W), 0 to 1."""
        self.model.to(images.device)
        with watched({"last": self._layer}) as seen:
            logits = self.model(self.processor.from_unit(images))
        features = seen["last"].inputs
        return Judgement(features.flatten(1).float(), logits.float().softmax(1))
