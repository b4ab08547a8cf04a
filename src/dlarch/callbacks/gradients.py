"""Gradient norms before clipping, for the whole model and for each of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
        if not self.is_due(trainer):
            return
        one = len(trainer.optimizers) == 1
        total = "total" if one else f"total_{trainer.optimizers.index(optimizer)}"
        place = (self.step_of(trainer), total)
        if self._logged == place:  # an optimizer that searches comes by several times
            return
        self._logged = place
        ours = {id(p) for group in optimizer.param_groups for p in group["params"]}
        named = [(name, p) for name, p in pl_module.named_parameters() if id(p) in ours]
        norms = gradient_norms(named, total=total)
        values = {f"gradients/{name}": norm for name, norm in norms.items()}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=self.step_of(trainer))

    @staticmethod
    def step_of(trainer: Trainer) -> int:
        """Steps that each of the optimizers has done."""
        return trainer.global_step // len(trainer.optimizers)

    @staticmethod
    def is_due(trainer: Trainer) -> bool:
        """Whether the step that comes next is one to log, by this process."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not every or not trainer.optimizers or (GradientNorms.step_of(trainer) + 1) % every:
            return False
        return bool(trainer.loggers) and trainer.is_global_zero


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
            parts.setdefault(name.partition(".")[0], []).append(parameter.grad)
    if not parts:
        return {}
    by_part = [gradient_norm(gradients) for gradients in parts.values()]
    norms = torch.stack([norm.to(by_part[0].device) for norm in by_part])
    values = torch.cat([torch.linalg.vector_norm(norms).reshape(1), norms]).tolist()
    return dict(zip([total, *parts], values, strict=True))


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The L2 norm over all of them in float32, of dense or sparse ones."""
    norms: list[Tensor] = []
    for gradient in gradients:
        values = gradient.coalesce().values() if gradient.is_sparse else gradient
        norms.append(torch.linalg.vector_norm(values.detach(), dtype=torch.float32))
    if len(norms) == 1:
        return norms[0]
    norm: Tensor = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms]))
    return norm
