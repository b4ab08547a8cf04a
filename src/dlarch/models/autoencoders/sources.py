"""Autoencoders to build on: where the network of `dec` and `idec` comes from."""

from __future__ import annotations

import json
from typing import Any

from dlarch import hub
from dlarch.errors import CheckpointError, MismatchError, OptionError
from dlarch.factory import create_model
from dlarch.spec import as_tuples
from dlarch.tasks import ClusteredImages, ImageAutoencoder


def described_autoencoder(
    described: dict[str, Any], image_shape: tuple[int, int, int]
) -> ImageAutoencoder:
    """An untrained autoencoder by its `name` and arguments.

    Raises:
        OptionError: it has no name.
        MismatchError: it is no autoencoder of images, or of others.
    """
    arguments = {key: as_tuples(value) for key, value in described.items()}
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise OptionError(
            f"The source has no name, only {described}: add name, such as autoencoder."
        )
    network = create_model(name, **{"image_shape": image_shape} | arguments)
    return _checked(network, name, image_shape)


def trained_autoencoder(
    source: str, image_shape: tuple[int, int, int]
) -> tuple[ImageAutoencoder, dict[str, Any]]:
    """A trained autoencoder, and what `described_autoencoder` makes an untrained one of again.

    Args:
        source: run folder, checkpoint, pretrained folder, or id on the Hub.
        image_shape: (C, H, W) of the data.

    Raises:
        CheckpointError: there is nothing, or it is damaged.
        MismatchError: it is no autoencoder of images, or of others.
    """
    try:
        network = hub.AutoModel.from_pretrained(source)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} source must be a run of an autoencoder, such as runs/autoencoder."
        ) from error
    _checked(network, source, image_shape)
    name = vars(type(network)).get("registry_name")
    return network, {"name": name, **json.loads(json.dumps(dict(network.hparams)))}


def _checked(network: Any, called: str, image_shape: tuple[int, int, int]) -> ImageAutoencoder:
    if not isinstance(network, ImageAutoencoder) or isinstance(network, ClusteredImages):
        raise MismatchError(f"{called} is no autoencoder of images.")
    theirs = tuple(network.hparams.image_shape)
    if theirs != tuple(image_shape):
        raise MismatchError(
            f"{called} squeezes images of the shape {theirs}, the data have {tuple(image_shape)}: "
            "take one that was trained on such images."
        )
    return network
