"""LSTM autoencoder: one network reads a sentence into a vector, another writes it from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.batches import TextBatch
from dlarch.nn import RecurrentState, run_recurrent, step_recurrent
from dlarch.registry import register_model
from dlarch.spec import PAD
from dlarch.tasks import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    TextAutoencoder,
)
from dlarch.tasks.losses import check_loss

Reader = Literal["lstm", "cnn_lstm"]
"""What reads a sentence: an LSTM over its words, or over what a convolution finds among them."""

WINDOW = 3
"""Words that a filter of the convolution sees."""


class SentenceEncoder(nn.Module):
    """Read sentences in both directions: what is known at either end, (B, 2N).

    Args:
        vocab_size: V.
        embedding_size: E.
        hidden_size: N, units of each direction.
        kind: what the LSTM reads, embeddings or the output of a convolution over them.
        dropout: share of embeddings set to zero in training.
    """

    def __init__(
        self, vocab_size: int, embedding_size: int, hidden_size: int, kind: Reader, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_size, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.convolution = None
        if kind == "cnn_lstm":
            self.convolution = nn.Conv1d(embedding_size, hidden_size, WINDOW, padding="same")
        inputs = embedding_size if self.convolution is None else hidden_size
        self.recurrent = nn.LSTM(inputs, hidden_size, batch_first=True, bidirectional=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """Ids (B, T) to the last state of each direction, (B, 2N)."""
        mask = tokens != PAD
        inputs = self.dropout(self.embedding(tokens))
        if self.convolution is not None:
            inputs = (inputs * mask[..., None]).transpose(1, 2)  # beyond the end there is nothing
            inputs = self.convolution(inputs).relu().transpose(1, 2)
        _, last = run_recurrent(self.recurrent, inputs, mask)
        return last.hidden.flatten(1)


class CodedState(NamedTuple):
    """What the decoder knows, for each of K hypotheses.

    Attributes:
        hidden: (B, K, 1, N).
        cell: (B, K, 1, N).
        code: (B, K, D), read at each step.
    """

    hidden: Tensor
    cell: Tensor
    code: Tensor


class SentenceDecoder(nn.Module):
    """Write sentences from codes: an LSTM that begins with the code, and reads it at each step.

    Args:
        vocab_size: V.
        embedding_size: E.
        hidden_size: N.
        code_size: D.
        dropout: share of embeddings and states set to zero in training.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        code_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.first = nn.Linear(code_size, hidden_size)
        self.embedding = nn.Embedding(vocab_size, embedding_size, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.recurrent = nn.LSTM(embedding_size + code_size, hidden_size, batch_first=True)
        self.output = nn.Linear(hidden_size, vocab_size)

    def start(self, code: Tensor) -> CodedState:
        """The state before the first token, from codes (B, D)."""
        hidden = self.first(code).tanh()[:, None, None]
        return CodedState(hidden, torch.zeros_like(hidden), code[:, None])

    def read(self, tokens: Tensor, state: CodedState) -> tuple[Tensor, CodedState]:
        """States (B, T, N) after each of the tokens (B, T), and the one after the last."""
        begin = RecurrentState(state.hidden[:, 0], state.cell[:, 0])
        states, last = run_recurrent(
            self.recurrent, self._inputs(tokens, state.code), tokens != PAD, begin
        )
        assert last.cell is not None
        after = CodedState(last.hidden[:, None], last.cell[:, None], state.code)
        return self.dropout(states), after

    def advance(self, token: Tensor, state: CodedState) -> tuple[Tensor, CodedState]:
        """State (B, K, N) after one more token of each hypothesis (B, K)."""
        before = RecurrentState(state.hidden, state.cell)
        states, last = step_recurrent(self.recurrent, self._inputs(token, state.code), before)
        assert last.cell is not None
        return states, CodedState(last.hidden, last.cell, state.code)

    def _inputs(self, tokens: Tensor, code: Tensor) -> Tensor:
        embedded = self.dropout(self.embedding(tokens))
        return torch.cat((embedded, code.expand(-1, tokens.shape[1], -1)), dim=-1)

    def project(self, features: Tensor) -> Tensor:
        """States (..., N) to logits (..., V)."""
        logits: Tensor = self.output(features)
        return logits


@register_model("lstm_autoencoder", paper="1511.01432")
class LSTMAutoencoder(TextAutoencoder):
    r"""Read a sentence into one vector, its code, and write the sentence from the code alone.

    $$z = W [\overrightarrow{h}_T ; \overleftarrow{h}_1] + b \qquad
      s_0 = \tanh(U z + c) \qquad s_t = \mathrm{LSTM}([x_t ; z], s_{t-1}) \qquad
      p(x_{t+1} \mid x_1 \dots x_t, z) = \mathrm{softmax}(V s_t + d)$$

    The h are the last states of LSTMs that read the sentence from both ends; with the encoder
    "cnn_lstm" they read what filters of 3 words find. In training the decoder is fed the sentence
    itself; what it makes of a code when it reads its own words is what the test scores. Near codes
    need not be near sentences: nothing says what lies between two codes, which `sentence_vae` adds.

    Shapes: tokens (B, T) -> states (B, 2N) -> code (B, D) -> logits (B, T - 1, V).

    Differences from the paper: (1) the encoder reads in both directions, and has weights of its
    own; (2) a linear layer makes the code, which the decoder reads at each step too; (3) a
    convolution before the encoder is an option; (4) Adam instead of gradient descent.

    Expected: test/exact_match 1.000 on numbers in words (seed 1), `dlarch fit --config
    recipes/lstm_autoencoder.yaml`; see docs/models/lstm_autoencoder.md.

    Args:
        vocab_size: number of token ids, V. Taken from the data when not given.
        encoder: "lstm", or "cnn_lstm" with a convolution before it.
        embedding_size: E.
        hidden_size: units of the decoder, and of each direction of the encoder, N.
        code_size: numbers in the code, D.
        dropout: share of embeddings and of the decoder's states set to zero in training.
        loss: called with logits (n, V) and targets (n,) of real tokens; a mean over them.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of all weights but the embeddings; torch's own when not given.
        pictures: write reconstructions and interpolations at each validation.
    """

    def __init__(
        self,
        vocab_size: int | None = None,
        encoder: Reader = "lstm",
        embedding_size: int = 128,
        hidden_size: int = 256,
        code_size: int = 256,
        dropout: float = 0.0,
        loss: LossCallable = F.cross_entropy,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer, scheduler=scheduler, initializer=initializer, pictures=pictures
        )
        self.loss = loss
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, vocab_size: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        sizes = (vocab_size, options.embedding_size, options.hidden_size)
        self.encoder = SentenceEncoder(*sizes, options.encoder, options.dropout)
        self.code = nn.Linear(2 * options.hidden_size, options.code_size)
        self.decoder = SentenceDecoder(*sizes, options.code_size, options.dropout)

    def encode(self, tokens: Tensor) -> Tensor:
        """Sentences (B, T) to their codes (B, D)."""
        code: Tensor = self.code(self.encoder(tokens))
        return code

    def training_step(self, batch: Sequence[Any], _: int) -> Tensor:
        """Mean loss of the batch's real tokens, the sentence being fed."""
        tokens = TextBatch(*batch).tokens
        targets = tokens[:, 1:][tokens[:, 1:] != PAD]
        logits = self.predict_tokens(tokens, self.encode(tokens))
        return self.mean_loss(self.loss(logits, targets) * len(targets), len(targets))

    def score(self, batch: TextBatch) -> None:
        """Nats per token, the sentence being fed."""
        nats = self.nats(batch.tokens, self.encode(batch.tokens))
        self._metrics["loss"].update(nats.sum(), (batch.tokens[:, 1:] != PAD).sum())

    def on_fit_start(self) -> None:
        """Try the loss that was asked for; see `Task`."""
        super().on_fit_start()
        logits = torch.randn((3, 5), generator=torch.Generator().manual_seed(0))
        check_loss(self.loss, logits, torch.tensor([4, 1, 2]))
