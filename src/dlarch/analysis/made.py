"""How far the images that a trained model makes are from real ones."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dlarch import factory, hub
from dlarch.batches import ImageBatch
from dlarch.errors import CheckpointError, MismatchError, OptionError
from dlarch.processing import ImageProcessor
from dlarch.tasks.judge import Judge, Judgement
from dlarch.tasks.made import ClassifierFrechet, RarestClass

Split = Literal["train", "validation", "test"]

AT_ONCE = 100
"""Images that are made and judged at a time."""

INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)
"""The weights that the FID is defined by, as torch-fidelity reads them."""


def judge_images(
    run: str | Path,
    by: str | None = None,
    fid: bool | nn.Module = False,
    count: int | None = None,
    split: Split = "test",
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, float]:
    """Compare images that a model makes with real ones, which are grey or in colours as stored.

    Args:
        run: run folder of a model that makes images, such as a VAE or a GAN.
        by: run folder of a classifier of such images; its features, and the classes it sees.
        fid: the Frechet Inception distance too; or by another network that gives features (B, F) of
            images in three channels, 0 to 1.
        count: images that are made; as many as there are real ones when not given.
        split: of the real images.
        seed: of the draws.
        device: that computes.

    Returns:
        `frechet_classifier`, `judge_confidence`, `rarest_class` and `fid`, as far as asked for.

    Raises:
        OptionError: neither a judge nor the FID is asked for, or torch-fidelity is not installed.
        MismatchError: the model makes no images, or the judge reads others.
        CheckpointError: there is no such run, or no weights for the FID.
    """
    if by is None and not fid:
        raise OptionError("Say who is to judge: --by RUN_OF_A_CLASSIFIER, or --fid.")
    inception = _inception(fid).to(device) if fid else None
    model: Any = hub.AutoModel.from_pretrained(run).to(device)
    processor = model.processor
    if not isinstance(processor, ImageProcessor) or not hasattr(model, "generate"):
        raise MismatchError(f"{type(model).__name__} makes no images: there is nothing to judge.")
    judge = None if by is None else Judge(by, processor.image_shape, processor.class_names)
    real = _real_images(run, processor, split)
    made = _made_images(model, count or len(real), seed)
    found: dict[str, float] = {}
    if judge is not None:
        found |= _judged(judge, real, made, device)
    if inception is not None:
        for images, are_real in ((real, True), (made, False)):
            for part in images.split(AT_ONCE):
                inception.update(part.to(device).expand(-1, 3, -1, -1), real=are_real)
        found["fid"] = float(inception.compute())
    return found


@torch.no_grad()
def _real_images(run: str | Path, processor: ImageProcessor, split: Split) -> Tensor:
    """All of a split (N, C, H, W), 0 to 1; grey ones also where black and white was learnt."""
    data = factory.create_data_of(run, processor=processor)
    if hasattr(data, "targets"):
        data.targets = "grey"
    data.prepare_data()
    data.setup("fit")
    batches = [ImageBatch(*batch).image for batch in data.in_order(split)]
    return torch.cat([processor.to_unit(images) for images in batches])


def _made_images(model: Any, count: int, seed: int) -> Tensor:
    """As many (N, C, H, W), 0 to 1, from other draws for each part."""
    pixels = []
    for place in range(0, count, AT_ONCE):
        pixels += model.generate(min(AT_ONCE, count - place), seed=seed + place)
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255


def _judged(judge: Judge, real: Tensor, made: Tensor, device: str) -> dict[str, float]:
    true, fake = (_seen(judge, images, device) for images in (real, made))
    frechet, rarest = ClassifierFrechet(), RarestClass(len(judge.class_names))
    frechet.update(true.features, fake.features)
    sure, classes = fake.probabilities.max(1)
    rarest.update(classes)
    return {
        "frechet_classifier": float(frechet.compute()),
        "judge_confidence": float(sure.mean()),
        "rarest_class": float(rarest.compute()),
    }


def _seen(judge: Judge, images: Tensor, device: str) -> Judgement:
    parts = [judge.see(part.to(device)) for part in images.split(AT_ONCE)]
    features, probabilities = (torch.cat(each).cpu() for each in zip(*parts, strict=True))
    return Judgement(features, probabilities)


def _inception(network: bool | nn.Module) -> Any:
    """The metric of torchmetrics, with the weights of Inception or with another network."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    if isinstance(network, nn.Module):
        return FrechetInceptionDistance(network, normalize=True)
    if find_spec("torch_fidelity") is None:
        raise OptionError(
            "The FID is not measured: torch-fidelity is not installed: pip install 'dlarch[fid]'."
        )
    options: dict[str, Any] = {"progress": False, "check_hash": True, "weights_only": True}
    try:
        path = hub.cached_weights(
            INCEPTION,
            "Those of Inception",
            lambda: torch.hub.load_state_dict_from_url(INCEPTION, **options),
        )
    except CheckpointError as error:
        raise CheckpointError(f"The FID is not measured: no weights. {error}") from error
    try:  # torch-fidelity would run code that came with them
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch makes of damaged files
        raise CheckpointError(
            f"The FID is not measured: {path} holds no weights, or is damaged: delete it, to have "
            "it downloaded anew."
        ) from error
    return FrechetInceptionDistance(normalize=True)
