"""The update rules of recurrent cells, written out, apart from the matrix products that feed them.

A recurrent step is a matrix product of the input, one of the state, and the few elementwise lines
below. Keeping the lines apart lets a model take the products of all inputs out of its loop. The
order of the gates is that of `torch.nn.GRUCell` and `torch.nn.LSTMCell`, so that their parameters
can be used as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

Recurrent = nn.RNN | nn.GRU | nn.LSTM
"""Torch's recurrent networks, whose parameters are used here."""

Cell = Literal["rnn", "gru", "lstm"]
"""What a recurrent network is made of."""

CELLS: dict[Cell, type[Recurrent]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
"""Recurrent networks by the name of their cell."""

Backend = Literal["written", "torch"]
"""Who computes the steps: the lines written out here, or torch's own network."""

Nonlinearity = Literal["tanh", "relu"]
"""Of the simple cell, "rnn"."""

RecurrentInit = Literal["torch", "identity", "orthogonal", "normal"]
"""How the matrices by which a state meets the next one begin."""


def make_recurrent(
    cell: Cell,
    input_size: int,
    hidden_size: int,
    layers: int = 1,
    *,
    bidirectional: bool = False,
    dropout: float = 0.0,
    nonlinearity: Nonlinearity = "tanh",
) -> Recurrent:
    """A recurrent network, batch first.

    Args:
        cell: rnn, gru or lstm.
        input_size: F.
        hidden_size: N, of each direction.
        layers: number of them.
        bidirectional: read in both directions.
        dropout: share of the inputs of the second and further layers set to zero in training.
        nonlinearity: of the cell "rnn".
    """
    of_cell = {"nonlinearity": nonlinearity} if cell == "rnn" else {}
    return CELLS[cell](
        input_size,
        hidden_size,
        layers,
        batch_first=True,
        bidirectional=bidirectional,
        dropout=dropout if layers > 1 else 0.0,  # else torch warns that it does nothing
        **of_cell,
    )


@torch.no_grad()
def init_recurrence(network: Recurrent, how: RecurrentInit, std: float = 0.01) -> None:
    """Draw the matrices U of all layers and directions anew, of each gate by itself.

    Args:
        network: whose U are the weights `weight_hh`.
        how: as torch has drawn them, as the identity (1504.00941), as a random orthogonal matrix,
            or normal.
        std: deviation of normal ones.
    """
    begin = {
        "torch": lambda _: None,
        "identity": nn.init.eye_,
        "orthogonal": nn.init.orthogonal_,
        "normal": lambda weight: nn.init.normal_(weight, std=std),
    }[how]
    for name, weight in network.named_parameters():
        if name.startswith("weight_hh"):
            for gate in weight.split(network.hidden_size):
                begin(gate)


def rnn_update(gates: Tensor, nonlinearity: str = "tanh") -> Tensor:
    r"""One step of a simple recurrent network (Elman, 1990).

    $$h' = \tanh(W_i x + b_i + W_h h + b_h)$$

    Args:
        gates: (..., N), the sum of the input's and the state's part.
        nonlinearity: "tanh" or "relu".

    Returns:
        The next state, (..., N).
    """
    return gates.relu() if nonlinearity == "relu" else gates.tanh()


def gru_update(input_gates: Tensor, hidden_gates: Tensor, hidden: Tensor) -> Tensor:
    r"""One step of a gated recurrent unit.

    $$r = \sigma(x_r + h_r) \quad z = \sigma(x_z + h_z) \quad n = \tanh(x_n + r h_n)$$
    $$h' = (1 - z) n + z h$$

    Args:
        input_gates: (..., 3N), the input's part $W_i x + b_i$ of the gates r, z, n.
        hidden_gates: (..., 3N), the state's part $W_h h + b_h$.
        hidden: (..., N), the state h.

    Returns:
        The next state, (..., N).
    """
    size = hidden.shape[-1]
    input_both, input_new = input_gates.split((2 * size, size), dim=-1)
    hidden_both, hidden_new = hidden_gates.split((2 * size, size), dim=-1)
    reset, update = (input_both + hidden_both).sigmoid().chunk(2, dim=-1)
    new = torch.addcmul(input_new, reset, hidden_new).tanh()
    return torch.lerp(new, hidden, update)


def lstm_update(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    r"""One step of a long short-term memory.

    $$c' = \sigma(f) c + \sigma(i) \tanh(g) \quad h' = \sigma(o) \tanh(c')$$

    Args:
        gates: (..., 4N), the sum of the input's and the state's part of the gates i, f, g, o.
        cell: (..., N), the cell state c.

    Returns:
        The next hidden state and the next cell state, each (..., N).
    """
    size = cell.shape[-1]
    input_forget, new, output = gates.split((2 * size, size, size), dim=-1)
    write, keep = input_forget.sigmoid().chunk(2, dim=-1)
    new_cell = torch.addcmul(keep * cell, write, new.tanh())
    return output.sigmoid() * new_cell.tanh(), new_cell


class RecurrentState(NamedTuple):
    """What recurrent layers know after a step.

    Attributes:
        hidden: (..., L, N), the state of each layer and direction, in torch's order.
        cell: the same of an LSTM's cells; None for others.
    """

    hidden: Tensor
    cell: Tensor | None


class StatesOfLayer(NamedTuple):
    """The states that a layer went through, as they were computed.

    Attributes:
        name: "_l0" for the first layer, "_l0_reverse" for the first that reads from the end.
        states: of each step in the order of the inputs, (n, N), n being the sequences that have
            the step; of an LSTM its cells, which are what it remembers by.
    """

    name: str
    states: list[Tensor]


_watchers: list[list[StatesOfLayer]] = []


@contextmanager
def watch_states() -> Iterator[list[StatesOfLayer]]:
    """Gather the states that `run_recurrent` goes through, of all layers, in a list.

    The steps are computed as written out here, since torch's own network keeps no states: the
    gradient of a loss with respect to each can be asked for.
    """
    watched: list[StatesOfLayer] = []
    _watchers.append(watched)
    try:
        yield watched
    finally:
        _watchers.remove(watched)


def run_recurrent(
    network: Recurrent,
    inputs: Tensor,
    mask: Tensor | None = None,
    start: RecurrentState | None = None,
    backend: Backend | None = None,
) -> tuple[Tensor, RecurrentState]:
    """Run a recurrent network over whole sequences, of different lengths with a mask.

    The result is that of `network` on packed sequences. On a CPU, torch's own backward pass copies
    the gates of all steps at each step; written out, the time grows with the length, not with its
    square.

    Args:
        network: batch first, of any number of layers, in one direction or both.
        inputs: (B, T, F).
        mask: (B, T), True on real inputs, which come first; all are real when not given.
        start: (B, L, N), the state before the first step; zeros when not given.
        backend: who computes the steps; torch on a GPU, else written out, when not given.

    Returns:
        Outputs (B, T, N), or (B, T, 2N) in both directions, zero where the mask is False; and the
        last real states (B, L, N).
    """
    count, length = inputs.shape[:2]
    lengths = mask.sum(1).cpu() if mask is not None else torch.full((count,), length)
    packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=mask is None)
    given = None
    if start is not None:
        given = tuple(part.transpose(0, 1) for part in start if part is not None)
    backend = backend or ("torch" if inputs.is_cuda else "written")
    if backend == "torch" and not _watchers:
        first = given if given is None or isinstance(network, nn.LSTM) else given[0]
        found, last = network(packed, first)
        states = last if isinstance(last, tuple) else (last,)
    else:
        found, states = _run_packed(network, packed, given)
    outputs, _ = pad_packed_sequence(found, batch_first=True, total_length=length)
    hidden, *cell = (state.transpose(0, 1) for state in states)
    return outputs, RecurrentState(hidden, cell[0] if cell else None)


def step_recurrent(
    network: Recurrent, inputs: Tensor, state: RecurrentState
) -> tuple[Tensor, RecurrentState]:
    """One step of a network of one direction, for each of K hypotheses.

    Args:
        network: batch first, of any number of layers.
        inputs: (B, K, F).
        state: (B, K, L, N).

    Returns:
        Outputs of the top layer (B, K, N), and the states after the step.
    """
    size = inputs.shape[:2]
    # Contiguous, since that is what torch's recurrent layers ask for.
    parts = [part.flatten(0, 1).transpose(0, 1).contiguous() for part in state if part is not None]
    given = tuple(parts) if isinstance(network, nn.LSTM) else parts[0]
    outputs, last = network(inputs.flatten(0, 1)[:, None], given)
    states = last if isinstance(last, tuple) else (last,)
    hidden, *cell = (part.transpose(0, 1).unflatten(0, size) for part in states)
    return outputs[:, 0].unflatten(0, size), RecurrentState(hidden, cell[0] if cell else None)


LayerState = tuple[Tensor, ...]
"""The state of one layer: hidden (B, N), of an LSTM also cell (B, N)."""


def step_from_gates(
    network: Recurrent, gates: Tensor, states: list[LayerState]
) -> list[LayerState]:
    """The states after a step, from the input's part of the first layer's gates.

    A loop need not compute again what it knows before it begins; and in training this is faster
    than `step_recurrent`, whose backward pass copies all gates.

    Args:
        network: of one direction and any number of layers.
        gates: (B, N, 3N or 4N), `weight_ih_l0 x + bias_ih_l0`.
        states: of each layer.
    """
    following: list[LayerState] = []
    for layer, (hidden, *cell) in enumerate(states):
        if layer > 0:
            below = F.dropout(following[-1][0], network.dropout, network.training)
            gates = _product(network, "ih", layer, below)
        hidden_gates = _product(network, "hh", layer, hidden)
        following.append(_updated(network, gates, hidden_gates, (hidden, *cell)))
    return following


def _updated(
    network: Recurrent, input_gates: Tensor, hidden_gates: Tensor, state: LayerState
) -> LayerState:
    """The state of a layer after a step."""
    if isinstance(network, nn.LSTM):
        return lstm_update(input_gates + hidden_gates, state[1])
    if isinstance(network, nn.GRU):
        return (gru_update(input_gates, hidden_gates, state[0]),)
    return (rnn_update(input_gates + hidden_gates, network.nonlinearity),)


def _product(network: Recurrent, part: str, layer: int, inputs: Tensor) -> Tensor:
    """What inputs give to a layer's gates, by its weights `part`, "ih" or "hh"."""
    weight = network.get_parameter(f"weight_{part}_l{layer}")
    return F.linear(inputs, weight, network.get_parameter(f"bias_{part}_l{layer}"))


def _run_packed(
    network: Recurrent, packed: PackedSequence, start: tuple[Tensor, ...] | None
) -> tuple[PackedSequence, tuple[Tensor, ...]]:
    """What `network(packed, start)` gives; states (L, B, N), of an LSTM also its cells."""
    data, sizes = packed.data, packed.batch_sizes.tolist()
    if start is not None and packed.sorted_indices is not None:
        start = tuple(part[:, packed.sorted_indices] for part in start)
    finals: list[tuple[Tensor, ...]] = []
    for layer in range(network.num_layers):
        if layer > 0 and network.dropout:
            data = F.dropout(data, network.dropout, network.training)
        outputs = []
        for direction in ("", "_reverse")[: 1 + network.bidirectional]:
            first = None if start is None else tuple(part[len(finals)] for part in start)
            found, final = _run_direction(network, data, sizes, f"_l{layer}{direction}", first)
            outputs.append(found)
            finals.append(final)
        data = torch.cat(outputs, dim=-1) if network.bidirectional else outputs[0]
    states = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
    if packed.unsorted_indices is not None:
        states = tuple(part[:, packed.unsorted_indices] for part in states)
    return packed._replace(data=data), states


def _run_direction(
    network: Recurrent,
    data: Tensor,
    sizes: list[int],
    name: str,
    start: tuple[Tensor, ...] | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction: outputs of all steps, and the last states, longest first.

    Args:
        network: whose parameters end in `name`.
        data: (sum of sizes, F), the inputs, step after step.
        sizes: sequences that have each step, falling.
        name: of the direction's parameters.
        start: the first states (B, N), longest first; zeros when not given.
    """
    weight_ih, weight_hh = (getattr(network, f"weight_{part}{name}") for part in ("ih", "hh"))
    bias_ih, bias_hh = (
        (getattr(network, f"bias_{part}{name}") for part in ("ih", "hh"))
        if network.bias
        else (None, None)
    )
    backward = name.endswith("_reverse")
    input_gates = F.linear(data, weight_ih, bias_ih).split(sizes)
    if start is None:
        zeros = input_gates[0].new_zeros(sizes[0], network.hidden_size)
        start = (zeros, zeros) if isinstance(network, nn.LSTM) else (zeros,)
    start = tuple(part.to(input_gates[0].dtype) for part in start)  # that of autocast
    begun = sizes[-1] if backward else sizes[0]
    state = tuple(part[:begun] for part in start)
    outputs: list[Tensor] = []
    states: list[Tensor] = []
    ended: list[tuple[Tensor, ...]] = []
    order = range(len(sizes))
    for step in reversed(order) if backward else order:
        size, before = sizes[step], len(state[0])
        if size > before:  # sequences that begin here
            pairs = zip(state, start, strict=True)
            state = tuple(torch.cat((part, first[before:size])) for part, first in pairs)
        elif size < before:  # some have ended
            ended.append(tuple(part[size:] for part in state))
            state = tuple(part[:size] for part in state)
        gates = F.linear(state[0], weight_hh, bias_hh)
        state = _updated(network, input_gates[step], gates, state)
        outputs.append(state[0])
        if _watchers:
            states.append(state[-1])
    if backward:
        outputs.reverse()
        states.reverse()
    for watched in _watchers:
        watched.append(StatesOfLayer(name, states))
    lasts = zip(state, *reversed(ended), strict=True)
    return torch.cat(outputs), tuple(torch.cat(parts) for parts in lasts)
