"""The network compiled by torch: fewer, larger kernels on a GPU."""

from __future__ import annotations

import logging

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from dlarch.callbacks.protocols import OffersTranslations
from dlarch.errors import OptionError

logger = logging.getLogger(__name__)


class Compile(Callback):
    """Compiles the model's `forward` by `torch.compile` while a fit lasts.

    The first steps take a minute or so longer; checkpoints are as without. What looks into layers
    may miss what compiled code does: of the health of gradients, dead and saturated units.

    Args:
        mode: of `torch.compile`, such as "max-autotune"; its default when not given.
        backend: that makes the code.
        on_cpu: compile for a CPU too, where little is gained; else a CPU runs the code as it is.
    """

    def __init__(
        self, mode: str | None = None, backend: str = "inductor", on_cpu: bool = False
    ) -> None:
        self.mode, self.backend, self.on_cpu = mode, backend, on_cpu

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compile, or say why not.

        Raises:
            OptionError: the model is a translator, whose training does not call `forward`.
        """
        if isinstance(pl_module, OffersTranslations):
            raise OptionError(
                "Compile is for models that see inputs of one size, not for translators: leave "
                "it out."
            )
        if pl_module.device.type == "cpu" and not self.on_cpu:
            logger.info("Compile leaves the network as it is: it runs on a CPU.")
            return
        # Not the module's own `compile`, which under DDP would take in the whole training step.
        compiled = torch.compile(pl_module.forward, mode=self.mode, backend=self.backend)
        pl_module.forward = compiled  # type: ignore[method-assign]

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the network as it was."""
        pl_module.__dict__.pop("forward", None)
