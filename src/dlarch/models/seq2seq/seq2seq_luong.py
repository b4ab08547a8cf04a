"""Encoder-decoder with Luong's attention: the decoder moves first, then looks at the source."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.decoding import map_tensors
from dlarch.errors import OptionError, check_at_least_1
from dlarch.nn import (
    RecurrentState,
    make_recurrent,
    run_recurrent,
    step_from_gates,
    step_recurrent,
)
from dlarch.registry import register_model
from dlarch.spec import PAD
from dlarch.tasks import (
    DecoderOutput,
    DecoderStep,
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    TeacherForcing,
    Translation,
    TranslationOutput,
)


class Memory(NamedTuple):
    """What the decoder knows of the source; computed once per sentence.

    Attributes:
        values: (B, S, N), one annotation per source token.
        keys: (B, S, N), the annotations' part of the score.
        mask: (B, S), True on real tokens.
        last: (B, L, N), the encoder's last state, with which the decoder begins.
    """

    values: Tensor
    keys: Tensor
    mask: Tensor
    last: RecurrentState


class State(NamedTuple):
    """The decoder's state, and the attentional vector (B, K, N) if it is fed to the next step."""

    recurrent: RecurrentState
    attentional: Tensor | None


class Looked(NamedTuple):
    """Attentional vectors (B, K, N) and the attention (B, K, S) that went into them."""

    attentional: Tensor
    attention: Tensor


@register_model("seq2seq_luong", paper="1508.04025")
class Seq2SeqLuong(Translation):
    r"""Update the decoder's state first, then weigh the source by it, and predict from both.

    A stack of L recurrent layers reads the source into annotations $h_1 \dots h_S$, another one,
    which begins where the first has ended, the target. Its state $s_t$ is compared with each
    annotation,

    $$\mathrm{score}(s_t, h_j) = \begin{cases} s_t^\top h_j & \text{dot} \\
      s_t^\top W_a h_j & \text{general} \\ v^\top \tanh(W_a [s_t; h_j]) & \text{concat}
      \end{cases} \qquad \alpha_{tj} = \mathrm{softmax}_j(\mathrm{score}(s_t, h_j)) \qquad
      c_t = \sum_j \alpha_{tj} h_j$$

    (over real tokens only), and the attentional vector predicts:

    $$\tilde s_t = \tanh(W_c [c_t; s_t]) \qquad p(y_t) = \mathrm{softmax}(W_o \tilde s_t + b_o)$$

    With input feeding, $\tilde s_t$ is read beside the next token, so that the decoder knows where
    it has looked. Without, no state depends on attention: all steps of a known target are one call
    of the decoder and one product with the annotations. Trained by maximum likelihood.

    Shapes: source (B, S), target (B, T) -> logits (B, T, V), attention (B, T, S).

    Differences from the paper: (1) global attention only; (2) the encoder reads in both directions
    with N / 2 units each unless asked not to; (3) input feeding is off by default, for speed;
    (4) the output layer has a bias, W_a and W_c have none; (5) Adam instead of gradient descent;
    (6) scheduled sampling (1506.03099) is an option.

    Expected: see docs/models/seq2seq_luong.md, `dlarch fit --config recipes/seq2seq_luong.yaml`.

    Args:
        source_vocab_size: number of source ids. Taken from the data when not given.
        target_vocab_size: number of target ids. Taken from the data when not given.
        embedding_size: E, of source and target embeddings.
        hidden_size: N, units of each layer; even, if both directions are read.
        layers: L, of encoder and decoder.
        cell: recurrent cell of encoder and decoder.
        bidirectional: let the encoder read in both directions.
        score: how a state is compared with an annotation.
        input_feeding: show the attentional vector to the next step.
        dropout: share of embeddings, of what one layer gives to the next, and of the output layer's
            inputs, set to zero in training.
        teacher_forcing: share of training steps fed the reference token, not the model's own.
        teacher_forcing_end: share reached, linearly, after `teacher_forcing_steps`; constant when
            not given.
        teacher_forcing_steps: optimizer steps over which the share changes.
        loss: called with logits (n, V) and targets (n,) of real tokens; a mean over them.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights of all layers but embeddings; torch's own when not given.
        pictures: draw attention and translations at each validation.
    """

    def __init__(
        self,
        source_vocab_size: int | None = None,
        target_vocab_size: int | None = None,
        embedding_size: int = 128,
        hidden_size: int = 256,
        layers: int = 1,
        cell: Literal["gru", "lstm"] = "lstm",
        bidirectional: bool = True,
        score: Literal["dot", "general", "concat"] = "general",
        input_feeding: bool = False,
        dropout: float = 0.0,
        teacher_forcing: float = 1.0,
        teacher_forcing_end: float | None = None,
        teacher_forcing_steps: int = 1000,
        loss: LossCallable = F.cross_entropy,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            loss=loss,
            optimizer=optimizer,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
            teacher_forcing=TeacherForcing(
                teacher_forcing, teacher_forcing_end, teacher_forcing_steps
            ),
        )
        check_at_least_1(embedding_size=embedding_size, hidden_size=hidden_size, layers=layers)
        if bidirectional and hidden_size % 2:
            raise OptionError(
                f"Two directions share hidden_size, which must be even, not {hidden_size}."
            )
        self.save_hyperparameters()
        self.build_if_known()  # else configure_model() builds, from the data's spec

    def build(self, source_vocab_size: int, target_vocab_size: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        size, hidden, layers = options.embedding_size, options.hidden_size, options.layers
        cell, dropout = options.cell, options.dropout

        self.dropout = nn.Dropout(dropout)
        self.source_embedding = nn.Embedding(source_vocab_size, size, padding_idx=PAD)
        self.encoder = make_recurrent(
            cell,
            size,
            hidden // 2 if options.bidirectional else hidden,
            layers,
            bidirectional=options.bidirectional,
            dropout=dropout,
        )
        self.target_embedding = nn.Embedding(target_vocab_size, size, padding_idx=PAD)
        fed = size + hidden if options.input_feeding else size
        self.decoder = make_recurrent(cell, fed, hidden, layers, dropout=dropout)
        if options.score != "dot":
            self.key = nn.Linear(hidden, hidden, bias=False)
        if options.score == "concat":
            self.query = nn.Linear(hidden, hidden, bias=False)
            self.energy = nn.Linear(hidden, 1, bias=False)
        self.combine = nn.Linear(2 * hidden, hidden, bias=False)
        self.output = nn.Linear(hidden, target_vocab_size)

    def forward(self, source: Tensor, target: Tensor) -> TranslationOutput:
        """Logits of the token after each target token fed: (B, S), (B, T) -> (B, T, V)."""
        features, attention = self.decode(target, self.encode(source), with_attention=True)
        return TranslationOutput(self.project(features), attention)

    def encode(self, source: Tensor) -> Memory:
        """Read the source, (B, S)."""
        mask = source != PAD
        embedded = self.dropout(self.source_embedding(source))
        values, last = run_recurrent(self.encoder, embedded, mask)
        if self.hparams.bidirectional:
            last = map_tensors(_side_by_side, last)
        keys = values if self.hparams.score == "dot" else self.key(values)
        return Memory(values, keys, mask, last)

    def first_state(self, memory: Memory) -> State:
        """The state before the first token, with K = 1."""
        start = map_tensors(lambda part: part[:, None], memory.last)
        fed = torch.zeros_like(memory.last.hidden[:, -1:]) if self.hparams.input_feeding else None
        return State(start, fed)

    def decode(self, target: Tensor, memory: Memory, with_attention: bool = False) -> DecoderOutput:
        """Write a target whose tokens are known: (B, T) tokens fed, T predictions made."""
        if self.hparams.input_feeding:
            found = self.decode_by_steps(target, memory)
        else:
            embedded = self.dropout(self.target_embedding(target))
            outputs, _ = run_recurrent(self.decoder, embedded, start=memory.last)
            found = self.look(outputs, memory)
        return DecoderOutput(found.attentional, found.attention if with_attention else None)

    def decode_by_steps(self, target: Tensor, memory: Memory) -> Looked:
        """The same where each step reads the attentional vector of the one before."""
        # The tokens' part of the first layer's gates is known before the loop.
        weight = self.decoder.get_parameter("weight_ih_l0")
        of_token, of_fed = weight.tensor_split((self.hparams.embedding_size,), dim=1)
        embedded = self.dropout(self.target_embedding(target))
        token_gates = F.linear(embedded, of_token, self.decoder.get_parameter("bias_ih_l0"))
        parts = [part.unbind(1) for part in memory.last if part is not None]
        states = list(zip(*parts, strict=True))
        fed, steps = torch.zeros_like(states[-1][0]), []
        for gates in token_gates.unbind(1):
            states = step_from_gates(self.decoder, gates + F.linear(fed, of_fed), states)
            steps.append(self.look(states[-1][0][:, None], memory))
            fed = steps[-1].attentional[:, 0]
        return Looked(*(torch.cat(parts, dim=1) for parts in zip(*steps, strict=True)))

    def advance(self, token: Tensor, state: State, memory: Memory) -> DecoderStep:
        """Feed one token to each hypothesis, (B, K)."""
        embedded = self.dropout(self.target_embedding(token))
        found, state = self.read(embedded, state, memory)
        return DecoderStep(found.attentional, state, found.attention)

    def read(self, embedded: Tensor, state: State, memory: Memory) -> tuple[Looked, State]:
        """One step of the decoder that reads embedded tokens (B, K, E), and its look back."""
        if state.attentional is not None:
            embedded = torch.cat((embedded, state.attentional), dim=-1)
        outputs, recurrent = step_recurrent(self.decoder, embedded, state.recurrent)
        found = self.look(outputs, memory)
        fed = None if state.attentional is None else found.attentional
        return found, State(recurrent, fed)

    def look(self, states: Tensor, memory: Memory) -> Looked:
        """Weigh the annotations by states (B, T, N), and join what was found to them."""
        scores = self.score(states, memory.keys).masked_fill(~memory.mask[:, None], -torch.inf)
        attention = scores.softmax(dim=-1)
        context = attention @ memory.values
        attentional = self.combine(torch.cat((context, states), dim=-1)).tanh()
        return Looked(attentional, attention)

    def score(self, states: Tensor, keys: Tensor) -> Tensor:
        """How well states (B, T, N) and annotations go together, (B, T, S)."""
        if self.hparams.score == "concat":
            both: Tensor = self.query(states)[:, :, None] + keys[:, None]
            return both.tanh() @ self.energy.weight[0]
        return states @ keys.transpose(1, 2)

    def project(self, features: Tensor) -> Tensor:
        """Features (..., N) to logits (..., V)."""
        logits: Tensor = self.output(self.dropout(features))
        return logits


def _side_by_side(states: Tensor) -> Tensor:
    """States (B, 2L, N / 2), the directions of a layer one after the other, as (B, L, N)."""
    return states.unflatten(1, (-1, 2)).flatten(2)  # type: ignore[no-any-return]
