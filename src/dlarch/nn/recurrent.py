"""The update rules of recurrent cells, written out, apart from the matrix products that feed them.

A recurrent step is a matrix product of the input, one of the state, and the few elementwise lines
below. Keeping the lines apart lets a model take the products of all inputs out of its loop. The
order of the gates is that of `torch.nn.GRUCell` and `torch.nn.LSTMCell`, so that their parameters
can be used as they are.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import PackedSequence


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


def run_packed(network: nn.GRU | nn.LSTM, packed: PackedSequence) -> tuple[PackedSequence, Tensor]:
    """Run a recurrent network over sequences of different lengths.

    The result is that of `network(packed)`. On a CPU, torch's own backward pass copies the gates of
    all steps at each step; here the time grows with the length, not with its square.

    Args:
        network: of any number of layers, in one direction or both.
        packed: B sequences of vectors.

    Returns:
        Outputs of all steps, packed, and the last hidden states (layers x directions, B, N), of
        which an LSTM's cell states are left out.
    """
    if packed.data.is_cuda:
        outputs, last = network(packed)
        return outputs, last[0] if isinstance(last, tuple) else last
    data, sizes = packed.data, packed.batch_sizes.tolist()
    finals: list[Tensor] = []
    for layer in range(network.num_layers):
        if layer > 0 and network.dropout:
            data = F.dropout(data, network.dropout, network.training)
        directions = [f"_l{layer}", f"_l{layer}_reverse"][: 1 + network.bidirectional]
        found = [_run_direction(network, data, sizes, name) for name in directions]
        data = torch.cat([outputs for outputs, _ in found], dim=-1)
        finals += [final for _, final in found]
    last = torch.stack(finals)
    if packed.unsorted_indices is not None:
        last = last[:, packed.unsorted_indices]
    return packed._replace(data=data), last


def _run_direction(
    network: nn.GRU | nn.LSTM, data: Tensor, sizes: list[int], name: str
) -> tuple[Tensor, Tensor]:
    """One layer in one direction: outputs of all steps, and the last states, longest first.

    Args:
        network: whose parameters end in `name`.
        data: (sum of sizes, F), the inputs, step after step.
        sizes: sequences that have each step, falling.
        name: of the direction's parameters.
    """
    weight_ih, weight_hh = (getattr(network, f"weight_{part}{name}") for part in ("ih", "hh"))
    bias_ih, bias_hh = (
        (getattr(network, f"bias_{part}{name}") for part in ("ih", "hh"))
        if network.bias
        else (None, None)
    )
    backward = name.endswith("_reverse")
    is_lstm = isinstance(network, nn.LSTM)
    input_gates = F.linear(data, weight_ih, bias_ih).split(sizes)
    first = sizes[-1] if backward else sizes[0]
    hidden = cell = input_gates[0].new_zeros(first, network.hidden_size)  # autocast's type
    outputs: list[Tensor] = []
    ended: list[Tensor] = []
    order = range(len(sizes))
    for step in reversed(order) if backward else order:
        begin = sizes[step] - len(hidden)  # sequences that begin here, or end (when negative)
        if begin > 0:
            hidden, cell = F.pad(hidden, (0, 0, 0, begin)), F.pad(cell, (0, 0, 0, begin))
        elif begin < 0:
            hidden, final = hidden.split((sizes[step], -begin))
            ended.append(final)
            cell = cell[: sizes[step]]
        gates = F.linear(hidden, weight_hh, bias_hh)
        if is_lstm:
            hidden, cell = lstm_update(input_gates[step] + gates, cell)
        else:
            hidden = gru_update(input_gates[step], gates, hidden)
        outputs.append(hidden)
    if backward:
        outputs.reverse()
    return torch.cat(outputs), torch.cat((hidden, *reversed(ended)))
