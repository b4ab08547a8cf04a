"""The other recurrent encoder-decoders as textbooks write them: everything inside the loop."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from dlarch.models.seq2seq.seq2seq import Seq2Seq
from dlarch.models.seq2seq.seq2seq_context import Seq2SeqContext
from dlarch.models.seq2seq.seq2seq_luong import Seq2SeqLuong
from dlarch.spec import PAD


class TextbookRecurrent(nn.Module):
    """Reads the source, then calls decoder and output layer on one token after the other."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        options = ours.hparams
        self.source_embedding = nn.Embedding(options.source_vocab_size, options.embedding_size)
        self.target_embedding = nn.Embedding(options.target_vocab_size, options.embedding_size)
        self.output = nn.Linear(ours.output.in_features, options.target_vocab_size)

    @torch.no_grad()
    def copy(self, ours: nn.Module) -> None:
        """Take over the weights of the layers of the same name."""
        for name, layer in self.named_children():
            weights = getattr(ours, name).state_dict()
            # What ours keeps of a cell is here a layer of one.
            plain = {name.removesuffix("_l0"): name for name in layer.state_dict()}
            layer.load_state_dict({plain.get(key, key): value for key, value in weights.items()})

    def read(self, source: Tensor) -> tuple[Tensor, Any]:
        """What the encoder gives for each token (B, S, N), and its last states (L, B, N)."""
        lengths = (source != PAD).sum(1)
        embedded = self.source_embedding(source)
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        outputs, last = self.encoder(packed)
        values, _ = pad_packed_sequence(outputs, batch_first=True, total_length=source.shape[1])
        return values, last

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (B, T, V) of the token after each target token fed."""
        state, memory = self.start(source)
        logits = []
        for step in range(target.shape[1]):
            features, state = self.step(self.target_embedding(target[:, step]), state, memory)
            logits.append(self.output(features))
        return torch.stack(logits, dim=1)

    @abstractmethod
    def start(self, source: Tensor) -> tuple[Any, Any]:
        """The state before the first token, and what each step looks at."""

    @abstractmethod
    def step(self, embedded: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any]:
        """From a token (B, E) to what the output layer sees (B, F), and the next state."""


class TextbookSeq2Seq(TextbookRecurrent):
    """One state handed over."""

    def __init__(self, ours: Seq2Seq) -> None:
        super().__init__(ours)
        sizes = (ours.hparams.embedding_size, ours.hparams.hidden_size, ours.hparams.layers)
        self.encoder = nn.LSTM(*sizes, batch_first=True)
        self.decoder = nn.LSTM(*sizes, batch_first=True)
        self.backwards = ours.hparams.reverse_source
        self.copy(ours)

    def start(self, source: Tensor) -> tuple[Any, None]:
        if self.backwards:
            rows = [row[row != PAD].flip(0) for row in source]
            source = pad_sequence(rows, batch_first=True, padding_value=PAD)
        _, last = self.read(source)
        return last, None

    def step(self, embedded: Tensor, state: Any, memory: None) -> tuple[Tensor, Any]:
        outputs, state = self.decoder(embedded[:, None], state)
        return outputs[:, 0], state


class TextbookContext(TextbookRecurrent):
    """The sentence's vector beside each token, and beside each state."""

    def __init__(self, ours: Seq2SeqContext) -> None:
        super().__init__(ours)
        embedding, hidden = ours.hparams.embedding_size, ours.hparams.hidden_size
        self.encoder = nn.GRU(embedding, hidden, batch_first=True)
        self.cell = nn.GRU(embedding + hidden, hidden, batch_first=True)
        self.copy(ours)

    def start(self, source: Tensor) -> tuple[Tensor, Tensor]:
        _, last = self.read(source)
        return last, last[0]

    def step(self, embedded: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        outputs, state = self.cell(torch.cat((embedded, memory), dim=1)[:, None], state)
        return torch.cat((embedded, outputs[:, 0], memory), dim=1), state


class TextbookLuong(TextbookRecurrent):
    """Attention with the general score, its keys anew at each step."""

    def __init__(self, ours: Seq2SeqLuong) -> None:
        super().__init__(ours)
        options = ours.hparams
        embedding, hidden = options.embedding_size, options.hidden_size
        self.feeding = options.input_feeding
        self.encoder = nn.LSTM(embedding, hidden // 2, batch_first=True, bidirectional=True)
        self.decoder = nn.LSTM(
            embedding + hidden if self.feeding else embedding, hidden, batch_first=True
        )
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.combine = nn.Linear(2 * hidden, hidden, bias=False)
        self.copy(ours)

    def start(self, source: Tensor) -> tuple[Any, tuple[Tensor, Tensor]]:
        values, last = self.read(source)
        recurrent = tuple(torch.cat((part[0], part[1]), dim=1)[None] for part in last)
        return (recurrent, torch.zeros_like(recurrent[0][0])), (values, source != PAD)

    def step(
        self, embedded: Tensor, state: Any, memory: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Any]:
        (values, mask), (recurrent, attentional) = memory, state
        if self.feeding:
            embedded = torch.cat((embedded, attentional), dim=1)
        outputs, recurrent = self.decoder(embedded[:, None], recurrent)
        scores = torch.bmm(outputs, self.key(values).transpose(1, 2))[:, 0]
        weights = scores.masked_fill(~mask, -1e10).softmax(dim=1)
        context = torch.bmm(weights[:, None], values)
        attentional = self.combine(torch.cat((context, outputs), dim=2)).tanh()[:, 0]
        return attentional, (recurrent, attentional)
