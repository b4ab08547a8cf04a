"""Gradient norms before clipping, for the whole model and for each of its parts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from typing_extensions import override


class GradientNorms(Callback):
    """Logs L2 norms of the gradients every `log_every_n_steps`, as they are before clipping.

    Tags: `gradients/total`, and `gradients/NAME` for each top-level part of the model (a shared
    parameter counts for the part that names it first). Steps count from 0, as those of Lightning.
    Other steps cost one comparison; a logging step waits for the device once. With several
    optimizers each is taken with its own parameters and its total is `gradients/total_INDEX`.
    Parameters that are sharded over ranks (FSDP) give the norm of rank zero's share.
    """

    def __init__(self) -> None:
        self._logged: tuple[int, str] | None = None

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Another fit counts its steps anew."""
        self._logged = None

    @override
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Gradients are complete and unscaled here, and not yet clipped."""
        optimizers = len(trainer.optimizers)
        step = trainer.global_step // optimizers
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not (every and trainer.loggers and trainer.is_global_zero) or (step + 1) % every:
            return
        total = "total" if optimizers == 1 else f"total_{trainer.optimizers.index(optimizer)}"
        if self._logged == (step, total):  # an optimizer that searches comes by several times
            return
        self._logged = (step, total)
        ours = {id(p) for group in optimizer.param_groups for p in group["params"]}
        named = [(name, p) for name, p in pl_module.named_parameters() if id(p) in ours]
        norms = gradient_norms(named, total=total)
        for logger in trainer.loggers:
            logger.log_metrics({f"gradients/{name}": n for name, n in norms.items()}, step=step)


def gradient_norms(
    parameters: Iterable[tuple[str, nn.Parameter]], total: str = "total"
) -> dict[str, float]:
    """L2 norm of the gradients of all named parameters, and by the first part of their names.

    Args:
        parameters: as `named_parameters` gives them; those without a gradient are left out.
        total: key of the norm over all; other keys are the first parts of the names.

    Returns:
        Norms in float32, read from the device in one transfer; empty without any gradient.
    """
    parts: dict[str, list[Tensor]] = {}
    for name, parameter in parameters:
        if parameter.grad is not None:
            parts.setdefault(name.partition(".")[0], []).append(_norm(parameter.grad))
    if not parts:
        return {}
    device = next(iter(parts.values()))[0].device
    norms = torch.stack(
        [torch.linalg.vector_norm(torch.stack([n.to(device) for n in p])) for p in parts.values()]
    )
    values = torch.cat([torch.linalg.vector_norm(norms).reshape(1), norms]).tolist()
    return dict(zip([total, *parts], values, strict=True))


def _norm(gradient: Tensor) -> Tensor:
    """The norm in float32, of a dense or a sparse gradient."""
    gradient = gradient.detach()
    if gradient.is_sparse:
        gradient = gradient.coalesce().values()
    norm: Tensor = torch.linalg.vector_norm(gradient, dtype=torch.float32)
    return norm
