"""The attention encoder-decoder as textbooks write it: everything inside the loop over steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn
from dlarch.spec import PAD


class Textbook(nn.Module):
    """Energy on the concatenation and projection to the vocabulary, anew at each step."""

    def __init__(self, ours: Seq2SeqAttn) -> None:
        super().__init__()
        size = {name: ours.hparams[name] for name in ("embedding_size", "encoder_size")}
        embedding, width, hidden = *size.values(), ours.hparams.hidden_size
        attention = ours.hparams.attention_size or hidden
        self.source_embedding = nn.Embedding(ours.hparams.source_vocab_size, embedding)
        self.encoder = nn.GRU(embedding, width, bidirectional=True, batch_first=True)
        self.start = nn.Linear(2 * width, hidden)
        self.attention = nn.Linear(hidden + 2 * width, attention)
        self.energy = nn.Linear(attention, 1, bias=False)
        self.target_embedding = nn.Embedding(ours.hparams.target_vocab_size, embedding)
        self.cell = nn.GRU(embedding + 2 * width, hidden, batch_first=True)
        self.output = nn.Linear(hidden + 2 * width + embedding, ours.hparams.target_vocab_size)
        self.copy(ours)

    @torch.no_grad()
    def copy(self, ours: Seq2SeqAttn) -> None:
        """Take over the weights."""
        same = ("source_embedding", "encoder", "start", "energy", "target_embedding", "output")
        for name in same:
            getattr(self, name).load_state_dict(getattr(ours, name).state_dict())
        self.attention.weight.copy_(torch.cat((ours.query.weight, ours.key.weight), dim=1))
        self.attention.bias.copy_(ours.key.bias)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(self.cell, f"{name}_l0").copy_(getattr(ours.cell, name))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (B, T, V) of the token after each target token fed."""
        mask = source != PAD
        packed = pack_padded_sequence(
            self.source_embedding(source), mask.sum(1), batch_first=True, enforce_sorted=False
        )
        values, last = self.encoder(packed)
        values, _ = pad_packed_sequence(values, batch_first=True, total_length=source.shape[1])
        hidden = self.start(torch.cat((last[0], last[1]), dim=1)).tanh()
        logits = []
        for step in range(target.shape[1]):
            embedded = self.target_embedding(target[:, step])
            repeated = hidden[:, None].expand(-1, source.shape[1], -1)
            energy = self.energy(self.attention(torch.cat((repeated, values), dim=2)).tanh())
            weights = energy[..., 0].masked_fill(~mask, -1e10).softmax(dim=1)
            context = torch.bmm(weights[:, None], values)[:, 0]
            out, hidden = self.cell(torch.cat((embedded, context), dim=1)[:, None], hidden[None])
            hidden = hidden[0]
            logits.append(self.output(torch.cat((out[:, 0], context, embedded), dim=1)))
        return torch.stack(logits, dim=1)
