"""The update rules of recurrent cells, written out, apart from the matrix products that feed them.

A recurrent step is a matrix product of the input, one of the state, and the few elementwise lines
below. Keeping the lines apart lets a model take the products of all inputs out of its loop. The
order of the gates is that of `torch.nn.GRUCell` and `torch.nn.LSTMCell`, so that their parameters
can be used as they are.
"""

import torch
from torch import Tensor


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
    gates = torch.sigmoid(input_gates[..., : 2 * size] + hidden_gates[..., : 2 * size])
    reset, update = gates.split(size, dim=-1)
    new = torch.addcmul(input_gates[..., 2 * size :], reset, hidden_gates[..., 2 * size :]).tanh()
    following: Tensor = new + update * (hidden - new)
    return following


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
    input_forget = gates[..., : 2 * size].sigmoid()
    write, keep = input_forget.split(size, dim=-1)
    new_cell = torch.addcmul(keep * cell, write, gates[..., 2 * size : 3 * size].tanh())
    return gates[..., 3 * size :].sigmoid() * new_cell.tanh(), new_cell
