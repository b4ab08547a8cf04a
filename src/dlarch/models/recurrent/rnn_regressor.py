"""Recurrent network on numbers: predict what a sequence adds up to, or how it goes on."""

from __future__ import annotations

import torch
from torch import Tensor, nn, optim

from dlarch.errors import OptionError
from dlarch.nn import (
    Backend,
    Cell,
    Nonlinearity,
    RecurrentInit,
    RecurrentState,
    init_recurrence,
    make_recurrent,
    run_recurrent,
)
from dlarch.registry import register_model
from dlarch.tasks import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    SequenceRegressor,
)


@register_model("rnn_regressor", paper="1504.00941")
class RNNRegressor(SequenceRegressor):
    r"""Read numbers step by step, and predict numbers from what is remembered of them.

    The numbers $x_t$ meet the state $h_{t-1}$. With the cell "rnn",

    $$h_t = \tanh(W x_t + b + U h_{t-1} + c) \qquad \hat y_t = V h_t + d$$

    while "gru" and "lstm" have gates that decide what is kept. The data say whether there is a
    target at the end of a sequence, so that all but the last prediction is unused, or after each
    step. Where the target is the next input, the network continues a sequence by reading its own
    predictions: $x_{t+1} = \hat y_t$.

    Predictions from the truth say little about that: a small error in the speed of a wave costs
    nothing in one step. With `free_steps` the network trains as it will be used: the last steps of
    each sequence are read from its own predictions, and the gradient goes back through these.

    Shapes: sequence (B, T, F) -> states (B, T, N) -> numbers (B, T, O).

    Differences from the paper: (1) GRU by default; the paper compares the simple cell, begun in
    several ways, with the LSTM; (2) Adam instead of gradient descent; (3) predictions may be asked
    for after each step, and be read.

    Expected: see docs/models/rnn_regressor.md, `dlarch fit --config recipes/rnn_regressor.yaml`.

    Args:
        in_features: numbers at each step, F. Taken from the data when not given.
        out_features: numbers to predict, O. Taken from the data when not given.
        cell: "rnn", "gru" or "lstm".
        hidden_size: units of each layer, N.
        layers: the states of each are the inputs of the next.
        nonlinearity: of the cell "rnn": "tanh" or "relu".
        recurrent_init: how the matrices U begin: as torch draws them, as the identity, as a random
            orthogonal matrix, or normal with deviation `recurrent_std`.
        recurrent_std: deviation of normal ones.
        free_steps: last steps of each training sequence that are read from the predictions, where
            the target is the next input.
        cell_backend: who computes the steps, the lines "written" in `dlarch.nn` or "torch"; torch
            on a GPU, else written, when not given.
        loss: called with predictions and targets; the mean squared error when not given.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of all weights; torch's own when not given.
        pictures: draw predictions, free runs and the gradient by time step at each validation.
    """

    def __init__(
        self,
        in_features: int | None = None,
        out_features: int | None = None,
        cell: Cell = "gru",
        hidden_size: int = 64,
        layers: int = 1,
        nonlinearity: Nonlinearity = "tanh",
        recurrent_init: RecurrentInit = "torch",
        recurrent_std: float = 0.01,
        free_steps: int = 0,
        cell_backend: Backend | None = None,
        loss: LossCallable | None = None,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer,
            loss=loss,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        if free_steps < 0:
            raise OptionError(f"free_steps must not be negative, but is {free_steps}.")
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, in_features: int, out_features: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        self.recurrent = make_recurrent(
            options.cell,
            in_features,
            options.hidden_size,
            options.layers,
            nonlinearity=options.nonlinearity,
        )
        self.output = nn.Linear(options.hidden_size, out_features)
        init_recurrence(self.recurrent, options.recurrent_init, options.recurrent_std)

    def forward(self, sequence: Tensor) -> Tensor:
        """Sequences (B, T, F) to numbers (B, T, O) after each step."""
        return self.read(sequence)[0]

    def read(
        self, sequence: Tensor, state: RecurrentState | None = None
    ) -> tuple[Tensor, RecurrentState]:
        """Numbers (B, T, O) after each step, and the states (B, L, N) after the last one."""
        states, last = run_recurrent(
            self.recurrent, sequence, start=state, backend=self.hparams.cell_backend
        )
        numbers: Tensor = self.output(states)
        return numbers, last

    def answers(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Numbers after each step or at the end; in training the last ones from their own.

        Raises:
            OptionError: sequences are too short, or their targets not the next inputs.
        """
        free = self.hparams.free_steps if self.training else 0
        if not free:
            return super().answers(inputs, targets)
        if targets.shape != inputs.shape:
            raise OptionError("free_steps is for targets that are the next inputs: leave it out.")
        if free >= inputs.shape[1]:
            raise OptionError(
                f"free_steps is {free}, but training sequences have only {inputs.shape[1]} steps."
            )
        numbers, state = self.read(inputs[:, :-free])
        return torch.cat((numbers, self._go_on(numbers[:, -1:], state, free)), dim=1)

    def _go_on(self, last: Tensor, state: RecurrentState, steps: int) -> Tensor:
        """Read the last prediction (B, 1, F), predict, read that: (B, steps, F)."""
        found = []
        for _ in range(steps):
            last, state = self.read(last, state)
            found.append(last)
        return torch.cat(found, dim=1)

    @torch.no_grad()
    def free_run(self, sequence: Tensor, steps: int) -> Tensor:
        """Read sequences (B, T, F), and continue them: (B, steps, F)."""
        numbers, state = self.read(sequence)
        first = numbers[:, -1:]
        return first if steps == 1 else torch.cat((first, self._go_on(first, state, steps - 1)), 1)
