"""What a loss that was asked for must be: one number, a mean over the examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlarch.errors import OptionError


def check_loss(loss: Callable[..., Any], outputs: Tensor, targets: Tensor) -> None:
    """Try a loss once, before training, and once more on each example twice.

    Args:
        loss: called with outputs and targets.
        outputs: such as the model makes.
        targets: such as the data have.

    Raises:
        OptionError: it cannot be called so, gives more than one number, or is no mean.
    """
    name = getattr(loss, "__name__", type(loss).__name__)
    try:
        with torch.no_grad():
            once = torch.as_tensor(loss(outputs, targets))
            twice = torch.as_tensor(loss(torch.cat((outputs, outputs)), torch.cat((targets,) * 2)))
    except Exception as error:  # whatever a foreign loss may raise
        gist = " ".join(str(error).split()).rstrip(".")
        raise OptionError(
            f"The loss {name} cannot score outputs {tuple(outputs.shape)} against targets "
            f"{tuple(targets.shape)} of type {targets.dtype}: {gist}."
        ) from error
    if once.dim() > 0:
        raise OptionError(f"The loss {name} gives {once.numel()} numbers: set its reduction: mean.")
    if not torch.allclose(once, twice, rtol=1e-3, atol=1e-6):
        raise OptionError(f"The loss {name} is no mean over the examples: set its reduction: mean.")
