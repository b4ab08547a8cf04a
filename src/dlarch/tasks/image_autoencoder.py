"""The task of squeezing an image into one vector, its code, and drawing it again from it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torchmetrics import Metric

from dlarch.batches import ImageBatch
from dlarch.callbacks.codes import CodeMap, Codes
from dlarch.callbacks.image_grids import ImageGrids
from dlarch.errors import OptionError
from dlarch.nn import squared_error
from dlarch.processing import ImageProcessor
from dlarch.processing.image import RawImage
from dlarch.spec import DataSpec
from dlarch.tasks.base import InitializerCallable, OptimizerCallable, SchedulerCallable, Task
from dlarch.tasks.metrics import Ratio

SHOWN = 8
"""Validation images, the first ones, that the pictures show."""

KEPT = 1000
"""Validation images, the first ones, whose codes are mapped."""

STEPS = 8
"""Images of an interpolation between two of them."""


class ImageAutoencoder(Task):
    """Squeeze an image into a code, and draw the image from the code.

    Models see pixels on the scale 0 to 1, however the data normalise them. A loss is summed over
    the pixels of an image and averaged over images; `sse` is the sum of squared errors of an image.

    Args:
        optimizer: called with the parameters.
        scheduler: called with the optimizer.
        initializer: of the weights; that of the model when not given.
        pictures: draw reconstructions, interpolations and codes at each validation.
    """

    batch_type = ImageBatch
    monitor: tuple[str, str] | None = ("val/loss", "min")
    headline = "test/sse"

    processor: ImageProcessor | None

    def __init__(
        self,
        optimizer: OptimizerCallable,
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer, scheduler=scheduler, pictures=pictures, initializer=initializer
        )
        self._kept: dict[int, tuple[Tensor, Tensor, int]] = {}  # image, code, label by place

    # ---- what a model defines

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Codes (B, D) of images (B, C, H, W), 0 to 1."""

    @abstractmethod
    def decode(self, code: Tensor) -> Tensor:
        """Images (B, C, H, W), 0 to 1, from codes (B, D)."""

    @abstractmethod
    def losses(self, batch: ImageBatch) -> Tensor:
        """The loss of each image in training, (B,); pixels are on the scale 0 to 1."""

    @classmethod
    def example(cls, size: int, seed: int) -> tuple[DataSpec, ImageBatch]:
        """A tiny spec and a batch of random images, black and white."""
        generator = torch.Generator().manual_seed(seed)
        images = (torch.rand((size, 1, 16, 24), generator=generator) > 0.5).float()
        spec = DataSpec(image_shape=(1, 16, 24), in_features=384, num_classes=3)
        return spec, ImageBatch(images, torch.arange(size) % 3, torch.arange(size))

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct images (B, C, H, W), 0 to 1."""
        return self.decode(self.encode(image))

    # ---- training

    def training_step(self, batch: Sequence[Any], _: int) -> Tensor:
        """Mean loss of the batch's images."""
        images = self.as_unit(batch)
        losses = self.losses(images)
        return self.mean_loss(losses.sum(), len(losses))

    def as_unit(self, batch: Sequence[Any]) -> ImageBatch:
        """The batch with pixels on the scale 0 to 1; without a processor they are already."""
        images = ImageBatch(*batch)
        if self.processor is None:
            return images
        return images._replace(image=self.processor.to_unit(images.image))

    # ---- validation and test

    def metrics(self, stage: str) -> dict[str, Metric]:  # noqa: ARG002
        """The loss and the sum of squared errors, per image."""
        return {"loss": Ratio(), "sse": Ratio()}

    def score(self, batch: ImageBatch) -> Tensor:
        """Score a batch; gives its codes."""
        code = self.encode(batch.image)
        count = float(len(code))
        self._metrics["loss"].update(self.losses(batch).sum(), count)
        self._metrics["sse"].update(squared_error(self.decode(code), batch.image).sum(), count)
        return code

    def on_validation_epoch_start(self) -> None:
        """Start the epoch's metrics and the images that are shown."""
        super().on_validation_epoch_start()
        self._kept = {}

    def validation_step(self, batch: Sequence[Any], _: int) -> None:
        """Score a batch, and keep those of its images that are among the first."""
        images = self.as_unit(batch)
        self._keep(images, self.score(images))

    def test_step(self, batch: Sequence[Any], batch_index: int) -> None:  # noqa: ARG002
        """Score a batch."""
        self.score(self.as_unit(batch))

    # ---- using a trained model

    @torch.inference_mode()
    def reconstruct(self, images: Sequence[RawImage]) -> list[Any]:
        """Squeeze images into codes, and draw them again.

        Args:
            images: files, pictures or pixels.

        Returns:
            Pixels (H, W, C), uint8, of each.
        """
        processor = self._own_processor()
        tensors = processor.to_unit(processor.encode(images).image).to(self.device)
        return as_bytes(self.evaluated(lambda: self(tensors)))

    def _own_processor(self) -> ImageProcessor:
        if self.processor is None:
            raise OptionError(
                "The model has no processor to read images with: train it on a data module first."
            )
        return self.processor

    # ---- building on a trained model

    def only_decodes(self) -> list[nn.Parameter]:
        """The parameters that codes do not depend on."""
        parameters = [each for each in self.parameters() if each.requires_grad]
        image = parameters[0].new_zeros((1, *self.hparams.image_shape))
        with torch.inference_mode(False), torch.enable_grad():
            code = self.evaluated(lambda: self.encode(image)).sum()
            found = torch.autograd.grad(code, parameters, allow_unused=True)
        return [each for each, grad in zip(parameters, found, strict=True) if grad is None]

    def drop_decoder(self) -> None:
        """Keep nothing but what codes depend on."""
        _drop(self, {id(each) for each in self.only_decodes()})

    # ---- what the pictures show

    def pictures(self) -> list[Callback]:
        """Images that are drawn from codes, and where the codes lie."""
        return [ImageGrids(), CodeMap()]

    def _keep(self, batch: ImageBatch, code: Tensor) -> None:
        """Keep the first images of the split, whatever order they come in."""
        if not self.with_pictures:
            return
        count = len(code)
        places = range(count) if batch.example is None else batch.example.tolist()
        labels = [-1] * count if batch.label is None else batch.label.tolist()
        for row, (place, label) in enumerate(zip(places, labels, strict=True)):
            if place < KEPT:
                self._kept[place] = (batch.image[row], code[row], label)

    def shown_images(self) -> Tensor | None:
        """The first validation images (N, C, H, W), 0 to 1; None where nothing was kept."""
        if not self._kept:
            return None
        first = sorted(self._kept)[:SHOWN]
        return torch.stack([self._kept[place][0] for place in first])

    def shown_labels(self) -> list[int]:
        """The classes of these images; -1 where they are unknown."""
        return [self._kept[place][2] for place in sorted(self._kept)[:SHOWN]]

    def kept_codes(self) -> Codes | None:
        """Codes of the first validation images, with their classes."""
        if not self._kept:
            return None
        images, codes, labels = zip(*(self._kept[p] for p in sorted(self._kept)), strict=True)
        names = self.processor.class_names if self.processor is not None else []
        classes = [names[label] for label in labels] if names and min(labels) >= 0 else []
        return Codes(torch.stack(codes), classes, as_bytes(torch.stack(images)))

    def made_images(self) -> dict[str, Tensor]:
        """Reconstructions below the first validation images, and images between two of them."""
        shown = self.shown_images()
        return {} if shown is None else self.evaluated(lambda: self._drawn(shown))

    def _drawn(self, shown: Tensor) -> dict[str, Tensor]:
        codes = self.encode(shown)
        found = {"reconstructions": torch.stack((shown, self.decode(codes)))}
        if len(codes) >= 2:
            found["interpolations"] = self.between(codes[: len(codes) // 2 * 2])
        return found

    def between(self, codes: Tensor) -> Tensor:
        """Images (rows, 8, C, H, W) on the straight lines from each even code to the next one."""
        ways = lines(codes)
        drawn: Tensor = self.decode(ways.flatten(0, 1)).unflatten(0, ways.shape[:2])
        return drawn


def lines(codes: Tensor) -> Tensor:
    """Codes (rows, 8, D) on the straight lines from each even code (B, D) to the next one."""
    shares = torch.linspace(0, 1, STEPS, device=codes.device)[None, :, None]
    return torch.lerp(codes[0::2, None], codes[1::2, None], shares)


def _drop(module: nn.Module, dropped: set[int]) -> None:
    """Let signals pass unchanged where all parameters of a part are among those by their `id`."""
    for name, part in list(module.named_children()):
        parameters = [id(each) for each in part.parameters()]
        if parameters and dropped.issuperset(parameters):
            setattr(module, name, nn.Identity())
        else:
            _drop(part, dropped)
    for name, parameter in list(module.named_parameters(recurse=False)):
        if id(parameter) in dropped:
            delattr(module, name)


def as_bytes(images: Tensor) -> list[Any]:
    """Images (B, C, H, W), 0 to 1, as pixels (H, W, C), uint8."""
    pixels = images.detach().float().clamp(0, 1).mul(255).round().byte()
    return list(pixels.permute(0, 2, 3, 1).cpu().numpy())
