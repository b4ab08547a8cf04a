"""Networks to build on: where the bodies of `finetune` and `dfc_vae` come from."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlarch import hub
from dlarch.batches import ImageBatch
from dlarch.errors import CheckpointError, MismatchError, OptionError, did_you_mean
from dlarch.factory import create_model
from dlarch.hub.imagenet import SMALLEST_SIDE
from dlarch.nn import (
    activation_layers,
    as_constants,
    cut_after,
    cut_off,
    last_layer,
    layers_up_to,
    watched,
)
from dlarch.registry import list_models, model_info
from dlarch.spec import FACT_NAMES, DataSpec, as_tuples
from dlarch.tasks import ImageAutoencoder, Supervised

Shape = tuple[int, int, int]


class Body(nn.Module):
    """A network that gives features, and what images must be like for it.

    Args:
        network: with its output layer, until `cut` leaves it out.
        image_shape: (C, H, W) of the images that it reads.
        normalisation: mean and standard deviation of each channel over the images that it was
            trained on; None if unknown.
        makes: what makes the network again but for its weights, as `source` of `find_body`.
        trained: whether it has been trained.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        image_shape: Shape,
        normalisation: tuple[list[float], list[float]] | None,
        makes: str | dict[str, Any],
        trained: bool,
    ) -> None:
        super().__init__()
        self.network = network
        self.channels, *self.size = image_shape
        self.normalisation, self.makes, self.trained = normalisation, makes, trained
        # What is normalised already passes unchanged, until the data's own means are known.
        self.register_buffer("scale", torch.ones(self.channels, 1, 1))
        self.register_buffer("shift", torch.zeros(self.channels, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Features of images: (B, C, H, W) to (B, F)."""
        seen = self.as_trained(image)
        coded = isinstance(self.network, ImageAutoencoder)
        features: Tensor = self.network.encode(seen) if coded else self.network(seen)  # type: ignore[operator]
        return features.flatten(1)

    def as_trained(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) in the size, channels and normalisation that the network knows."""
        if image.shape[2:] != torch.Size(self.size):
            smaller = self.size[0] < image.shape[2] or self.size[1] < image.shape[3]
            image = F.interpolate(image, self.size, mode="bilinear", antialias=smaller)
        return image * self.scale + self.shift  # one grey channel becomes as many as there are

    def expect(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take images that were normalised by a mean m and deviation s per channel.

        z = (x - m) / s becomes (x - m') / s', with those of the images the network was trained on.
        """
        if self.normalisation is None:
            return
        m, s, own_m, own_s = (
            self.scale.new_tensor(values)[:, None, None]
            for values in (mean, std, *self.normalisation)
        )
        self.scale.copy_((s / own_s).expand_as(self.scale))
        self.shift.copy_(((m - own_m) / own_s).expand_as(self.shift))

    def cut(self, layer: str | None, image_shape: Shape) -> int:
        """Leave a layer and all after it out, if none is named the output layer.

        Of an autoencoder the decoder is left out, if none is named.

        Returns:
            The number of features that are left for an image (C, H, W) of the data.

        Raises:
            MismatchError: the images are in colours, and those of the network grey.
            OptionError: there is no such layer, or what is left cannot read the images.
        """
        if isinstance(self.network, ImageAutoencoder):
            self.network.drop_decoder()
        if layer is not None or not isinstance(self.network, ImageAutoencoder):
            cut_off(self.network, layer or last_layer(self.network))
        return self._try(image_shape, "resize and cut").shape[1]

    def keep(self, names: Sequence[str], image_shape: Shape) -> list[str]:
        """Leave out all that comes after the last of some layers, and train nothing of the rest.

        Args:
            names: of the layers; all activations when there are none.
            image_shape: (C, H, W) of the data.

        Returns:
            The names of the layers.

        Raises:
            MismatchError: the images are in colours, and those of the network grey.
            OptionError: there is no such layer, or what is left cannot read the images.
        """
        kept = list(names) or activation_layers(self.network)
        if not kept:
            raise OptionError(
                f"{type(self.network).__name__} has no layers that are activations: name some, of "
                f"{', '.join(name for name, _ in self.network.named_children())}, and those in "
                "them."
            )
        for name in kept:  # all are there before anything is cut
            layers_up_to(self.network, name)
        last = max(kept, key=[name for name, _ in self.network.named_modules()].index)
        cut_after(self.network, last)
        for part in self.network.modules():
            if getattr(part, "inplace", False):  # it would change what the layer before it gave
                part.inplace = False  # type: ignore[assignment]
        as_constants(self.network)
        with watched(self.layers(kept)) as seen:
            self._try(image_shape, "resize and layers")
        idle = [name for name in kept if name not in seen]
        if idle:
            raise OptionError(f"Images do not pass through {', '.join(idle)}: leave it out.")
        return kept

    def layers(self, names: Sequence[str]) -> dict[str, nn.Module]:
        """Layers of the network by their names."""
        return {name: self.network.get_submodule(name) for name in names}

    def _try(self, image_shape: Shape, options: str) -> Tensor:
        """Features of an image (C, H, W) of the data; `options` are what may be wrong."""
        if image_shape[0] not in (1, self.channels):
            raise MismatchError(
                "The body reads grey images, the data are in colours: take a body that was trained "
                "on colours."
            )
        self.eval()
        try:
            with torch.no_grad():
                features: Tensor = self(torch.zeros(1, *image_shape))
                return features
        except (RuntimeError, ValueError) as error:
            height, width = self.size
            raise OptionError(
                f"The body cannot read images of {height} x {width} pixels, or not without the "
                f"layers that are cut off ({str(error).splitlines()[0]}): give other values of "
                f"{options}."
            ) from error


def find_body(
    source: str | dict[str, Any],
    weights: str | None,
    size: int | Sequence[int] | None,
    image_shape: Shape,
    num_classes: int,
) -> Body:
    """The network that `source` means.

    Args:
        source: the name of a network of torchvision; that of a model of dlarch, which starts
            untrained, or its `name` with its arguments; else a run folder, a checkpoint, a
            pretrained folder or an id on the Hub.
        weights: of a network of torchvision; None draws them at random.
        size: of the images that it is to read; its own when not given.
        image_shape: (C, H, W) of the data.
        num_classes: of the data.

    Raises:
        OptionError: there is no such thing.
        CheckpointError: it is damaged, or cannot be downloaded.
        MismatchError: it neither sorts images into classes nor squeezes them into codes.
    """
    wanted = (size, size) if isinstance(size, int) else None if size is None else tuple(size)
    if isinstance(source, str) and source in hub.IMAGENET_NAMES:
        return _of_torchvision(source, weights, wanted or _large_enough(image_shape))
    if weights is not None:
        raise OptionError(
            f"weights are for {', '.join(hub.IMAGENET_NAMES)}; those of a trained model come with "
            "it, so leave them out."
        )
    if isinstance(source, dict):
        return _untrained(source, wanted, image_shape, num_classes)
    if "/" not in source and source in _names():
        body = _untrained({"name": source}, wanted, image_shape, num_classes)
        body.makes = source
        return body
    return _trained(source, wanted)


def _names() -> set[str]:
    return {name for model in list_models() for name in (model, *model_info(model).aliases)}


def _large_enough(image_shape: Shape) -> tuple[int, int]:
    """Height and width of the data, made larger where torchvision's networks could not halve it."""
    _, height, width = image_shape
    factor = max(1.0, SMALLEST_SIDE / min(height, width))
    return round(height * factor), round(width * factor)


def _of_torchvision(name: str, weights: str | None, size: tuple[int, ...]) -> Body:
    network, mean, std = hub.imagenet_network(name, weights)
    height, width = size
    return Body(network, (3, height, width), (mean, std), name, weights is not None)


def _untrained(
    described: dict[str, Any],
    size: tuple[int, ...] | None,
    image_shape: Shape,
    num_classes: int,
) -> Body:
    """A model of dlarch by name and arguments; facts that they lack are those of the data."""
    if not isinstance(described.get("name"), str):
        raise OptionError(f"The body has no name, only {described}: add name, such as cnn.")
    name, arguments = described["name"], {key: as_tuples(v) for key, v in described.items()}
    del arguments["name"]
    channels, *usual = arguments.get("image_shape") or image_shape
    height, width = size or usual
    if "in_features" in arguments:
        channels = arguments["in_features"] // (height * width)
    shape = (channels, height, width)
    spec = DataSpec(image_shape=shape, in_features=math.prod(shape), num_classes=num_classes)
    own = {key: None for key in FACT_NAMES if arguments.get(key) is not None}
    network = create_model(name, DataSpec.from_dict(spec.to_dict() | own), **arguments)
    _check(network, name)
    return Body(network, shape, _as_coded(network), described, trained=False)


def _trained(source: str, size: tuple[int, ...] | None) -> Body:
    try:
        network = hub.AutoModel.from_pretrained(source)
    except CheckpointError as error:
        if "/" in source:
            raise
        names = [*hub.IMAGENET_NAMES, *_names()]
        raise OptionError(
            f"There is no body '{source}'.{did_you_mean(source, names)} Give "
            f"{', '.join(hub.IMAGENET_NAMES)}, a run folder, a pretrained folder, or an id on the "
            "Hub such as 'user/model'."
        ) from error
    _check(network, source)
    name = vars(type(network)).get("registry_name")
    if name is None or name not in _names():
        raise MismatchError(
            f"{source} is a {type(network).__name__}, which has no registered name."
        )
    processor, hparams = network.processor, network.hparams
    shape = getattr(processor, "image_shape", None) or hparams.get("image_shape")
    if shape is None:
        raise MismatchError(f"{source} was not trained on images, so it cannot read these.")
    height, width = size or shape[1:]
    usual = (processor.mean, processor.std) if hasattr(processor, "std") else None
    return Body(
        network,
        (shape[0], height, width),
        _as_coded(network) or usual,
        {"name": name, **json.loads(json.dumps(dict(hparams)))},
        trained=True,
    )


def _as_coded(network: nn.Module) -> tuple[list[float], list[float]] | None:
    """Autoencoders see pixels as they are, 0 to 1."""
    if not isinstance(network, ImageAutoencoder):
        return None
    channels = network.hparams.image_shape[0]
    return [0.0] * channels, [1.0] * channels


def _check(network: nn.Module, called: str) -> None:
    sorts = isinstance(network, Supervised) and network.takes(ImageBatch)
    if not (sorts or isinstance(network, ImageAutoencoder)):
        raise MismatchError(
            f"{called} is no model that sorts images into classes, or squeezes them into codes."
        )
