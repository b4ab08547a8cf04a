"""Two networks that are trained in turn, each by an optimizer of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import LBFGS, Optimizer

from dlarch.errors import OptionError, check_at_least_1
from dlarch.tasks.base import InitializerCallable, OptimizerCallable, SchedulerCallable, Task


class Alternating(Task):
    """Train a critic for some batches, then a generator on the last of them, and so on.

    A model has the networks `generator` and `critic`, or says in `learners` whose parameters each
    optimizer changes. Losses of one forward pass, each for a part of the networks, are given their
    gradients by `find_gradients` one after the other, before any weights are moved.

    Lightning leaves such a training to the model (manual optimization). What it does otherwise is
    done here: the Trainer's `gradient_clip_val` clips the gradient of each network on its own;
    gradients are means over the examples of all processes; schedulers step with their optimizer.
    `trainer.global_step` counts the steps of both optimizers, and with it `max_steps`. The place in
    the turn follows from it, so that a training can be resumed anywhere.

    Args:
        optimizer: of the generator, called with its parameters.
        critic_optimizer: of the critic, likewise.
        critic_steps: of the critic, for each step of the generator; each has a batch of its own.
        scheduler: called with each of the two optimizers.
        initializer: of all weights; that of the model when not given.
        pictures: add the task's pictures to the loggers.
    """

    optimizer_arguments = ("optimizer", "critic_optimizer")

    generator: nn.Module
    critic: nn.Module

    def __init__(
        self,
        optimizer: OptimizerCallable,
        critic_optimizer: OptimizerCallable,
        critic_steps: int = 1,
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer, scheduler=scheduler, initializer=initializer, pictures=pictures
        )
        check_at_least_1(critic_steps=critic_steps)
        self.automatic_optimization = False
        self.make_critic_optimizer = critic_optimizer
        self.critic_steps = critic_steps

    # ---- what the Trainer asks for

    def configure_callbacks(self) -> list[Callback]:
        """Take the clipping from the Trainer, which would refuse it, until training starts.

        Raises:
            OptionError: gradients are to be accumulated.
        """
        trainer: Any = self.trainer
        if trainer.state.fn == TrainerFn.FITTING:
            if trainer.accumulate_grad_batches != 1:
                raise OptionError(
                    f"{type(self).__name__} trains two networks in turn, which cannot accumulate "
                    "gradients: give a larger --data.batch_size instead of "
                    "accumulate_grad_batches."
                )
            self._clipping, trainer.gradient_clip_val = trainer.gradient_clip_val, None
        return super().configure_callbacks()

    def configure_optimizers(self) -> Any:
        """The optimizers of generator and critic, with their schedulers if there are any."""
        return [
            self.scheduled(self.make_optimizer(self.learners(0)), 0),
            self.scheduled(self.make_critic_optimizer(self.learners(1)), 1),
        ]

    def learners(self, place: int) -> list[nn.Parameter]:
        """What an optimizer changes: that of the generator (0) or that of the critic (1)."""
        return list((self.critic if place else self.generator).parameters())

    def scheduled(self, optimizer: Optimizer, place: int = 0) -> Any:
        """An optimizer and its scheduler, which is stepped here and not by Lightning."""
        plan = super().scheduled(optimizer, place)
        if isinstance(plan, dict):
            plan["lr_scheduler"] = {"scheduler": plan["lr_scheduler"]["scheduler"]}
        return plan

    def planned_steps(self, place: int) -> float:
        """Those of generator (0) or critic (1): a critic has one for each batch."""
        batches = self.trainer.estimated_stepping_batches
        if self.trainer.max_steps > 0:  # it counts the steps of both
            share = self.critic_steps / (self.critic_steps + 1)
            batches = min(batches, math.ceil(self.trainer.max_steps * share))
        return batches if place == 1 else batches // self.critic_steps

    def on_fit_start(self) -> None:
        """Give the Trainer its clipping back.

        Raises:
            OptionError: an optimizer or strategy cannot train two networks in turn.
        """
        trainer: Any = self.trainer
        trainer.gradient_clip_val = self._clipping
        super().on_fit_start()
        if any(isinstance(each, LBFGS) for each in trainer.optimizers):
            raise OptionError("LBFGS cannot train two networks in turn: take another optimizer.")
        if trainer.world_size > 1 and not isinstance(trainer.strategy, DDPStrategy):
            raise OptionError(
                "Two networks are trained in turn on one device or with --trainer.strategy ddp."
            )

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip, after callbacks have seen the gradients."""
        self.clip_gradients(optimizer)

    # ---- steps

    def generator_is_due(self) -> bool:
        """Whether the critic has taken all steps of its turn."""
        return self.trainer.global_step % (self.critic_steps + 1) == self.critic_steps

    def take_step(self, place: int, loss: Tensor, count: int) -> None:
        """Let one of the networks learn.

        Args:
            place: 0 for the generator, 1 for the critic.
            loss: mean over the examples; what it makes of the other network stays as it is.
            count: of the examples.
        """
        self.find_gradients(self.learners(place), loss, count)
        self.apply_gradients(place)

    def find_gradients(
        self,
        parameters: Iterable[nn.Parameter],
        loss: Tensor,
        count: int,
        keep_graph: bool = False,
    ) -> None:
        """Give some parameters the gradient of a loss, and no others.

        Args:
            parameters: of one network, or of a part of it.
            loss: mean over the examples.
            count: of the examples.
            keep_graph: another loss of the same forward pass follows.
        """
        learning = [each for each in parameters if each.requires_grad]
        for parameter in learning:
            parameter.grad = None
        with self._unsynchronised():
            self.manual_backward(loss, inputs=learning, retain_graph=keep_graph)
        self._average_gradients(learning, count)

    def apply_gradients(self, place: int) -> None:
        """Move the weights of one of the networks by the gradients that were found."""
        optimizer: Any = self.optimizers()[place]  # type: ignore[index]
        optimizer.step()
        torch.clear_autocast_cache()  # else weights of before the step would be used again
        if self.make_scheduler is not None:
            self.lr_scheduler_step(self.lr_schedulers()[place], None)  # type: ignore[index]

    def draw_normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, other ones in each process."""
        drawn = torch.randn((self.trainer.world_size, *shape), device=self.device)
        return drawn[self.trainer.global_rank]

    def _unsynchronised(self) -> Any:
        """Keep DDP from waiting for gradients of the network whose turn it is not."""
        model = self.trainer.strategy.model
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()

    def _average_gradients(self, parameters: list[nn.Parameter], count: int) -> None:
        """Make them those of the mean over the examples of all processes."""
        if self.trainer.world_size == 1:
            return
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([*(grad.flatten() for grad in grads), grads[0].new_ones(1)]) * count
        torch.distributed.all_reduce(flat)
        parts = (flat[:-1] / flat[-1]).split([grad.numel() for grad in grads])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    @contextmanager
    def without_learning(self) -> Iterator[None]:
        """Compute something that nothing is to be learnt from, and leave no trace of that.

        With lower precision, weights that were converted in here would else be used again where
        the gradient has to reach them.
        """
        with torch.no_grad():
            yield
        torch.clear_autocast_cache()

    # ---- what is logged: means since the last time, of each loss

    def _begin_sums(self) -> None:
        super()._begin_sums()
        self._sums: dict[str, tuple[Tensor | float, int]] = {}

    def note_loss(self, name: str, loss: Tensor, count: int) -> None:
        """Add a mean loss to what is logged as `train/NAME`.

        Raises:
            NonFiniteLossError: it is infinite or not a number.
        """
        total, before = self._sums.get(name, (0.0, 0))
        self._sums[name] = (total + self._finite_value(loss) * count, before + count)

    def _log_is_due(self) -> bool:
        """A batch may have two steps, so that a multiple may be passed over."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return every > 0 and self.trainer.global_step // every > self._logged_step // every

    def _means_since_log(self) -> dict[str, float]:
        return {
            f"train/{name}": self._mean_of(total, count)
            for name, (total, count) in self._sums.items()
        }

    def _forget_sums(self) -> None:
        self._sums = {}

    # ---- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the sums since the last time."""
        super().on_save_checkpoint(checkpoint)
        added = checkpoint["dlarch"]
        logged = self._trainer is not None and self._log_is_due()
        sums = {} if logged else self._sums
        added["losses"] = {name: [float(total), count] for name, (total, count) in sums.items()}

    def _go_on_from(self, stored: dict[str, Any]) -> None:
        super()._go_on_from(stored)
        self._sums = {name: (total, count) for name, (total, count) in stored["losses"].items()}
