"""Networks of torchvision that were trained on ImageNet, and their weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from urllib.error import HTTPError
from urllib.request import urlopen

import torch
from torch import nn

from dlarch.errors import CheckpointError, OptionError, did_you_mean
from dlarch.hub.remote import NETWORK_SECONDS, in_time

ImageNetName = Literal["resnet18", "resnet34", "resnet50", "vgg16", "vgg19"]
"""The networks that there are."""

IMAGENET_NAMES: tuple[str, ...] = get_args(ImageNetName)

SMALLEST_SIDE = 32
"""Pixels: these networks halve an image five times."""


class ImageNetNetwork(NamedTuple):
    """A network, and the mean and deviation of the channels of the images it was trained on."""

    network: nn.Module
    mean: list[float]
    std: list[float]


def imagenet_network(name: str, weights: str | None = None) -> ImageNetNetwork:
    """A network of torchvision, downloaded only if `weights` are asked for and not in the cache.

    Args:
        name: one of IMAGENET_NAMES.
        weights: their name, such as "IMAGENET1K_V1" or "DEFAULT"; None draws them at random.

    Raises:
        OptionError: there are no such weights.
        CheckpointError: they cannot be downloaded, or the file in the cache is damaged.
    """
    from torchvision.models import get_model, get_model_weights

    network = get_model(name)
    known = get_model_weights(name)
    if weights is None:
        usual = known["DEFAULT"].transforms()
        return ImageNetNetwork(network, usual.mean, usual.std)
    names = list(known.__members__)
    if weights not in names:
        raise OptionError(
            f"{name} has no weights {weights!r}, only {', '.join(names)}."
            f"{did_you_mean(weights, names)}"
        )
    _load(network, name, known[weights])
    expected = known[weights].transforms()
    return ImageNetNetwork(network, expected.mean, expected.std)


def cached_weights(url: str, called: str, download: Callable[[], object]) -> Path:
    """A file in the cache of torch.hub, into which it is downloaded first if need be.

    Args:
        url: where it comes from.
        called: what messages call it; more than one thing.
        download: puts it there.

    Raises:
        CheckpointError: it cannot be downloaded.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.is_file():
        try:
            # The download itself would wait for an answer as long as it takes.
            in_time(lambda: urlopen(url, timeout=NETWORK_SECONDS).close())
            download()
        except (OSError, RuntimeError) as error:
            reason = f"error {error.code}" if isinstance(error, HTTPError) else "no connection"
            raise CheckpointError(
                f"{called} are not on this machine and cannot be downloaded ({reason}): get {url} "
                f"elsewhere and place it as {path}."
            ) from error
    return path


def _load(network: nn.Module, name: str, weights: Any) -> None:
    """Read weights from the cache of torch.hub, into which they are downloaded first if need be."""
    path = cached_weights(
        weights.url,
        f"The weights {weights.name} of {name}",
        lambda: weights.get_state_dict(progress=False, check_hash=True, weights_only=True),
    )
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever torch makes of damaged files
        raise CheckpointError(
            f"{path} does not hold the weights of {name}, or is damaged: delete it, and it is "
            "downloaded anew."
        ) from error
