"""The attention encoder-decoder against the same equations written out step by step."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn
from dlarch.spec import PAD

SOURCE_VOCAB, TARGET_VOCAB = 11, 13
SIZES = {"embedding_size": 6, "encoder_size": 5, "hidden_size": 7, "attention_size": 8}
CELLS = pytest.mark.parametrize("cell", ["gru", "lstm"])


def make_model(**options) -> Seq2SeqAttn:
    torch.manual_seed(0)
    return Seq2SeqAttn(SOURCE_VOCAB, TARGET_VOCAB, **SIZES | options)


@pytest.fixture
def pairs():
    """Source (B, S) and target (B, T) of mixed lengths."""
    return Seq2SeqAttn.example(5, seed=1)[1][:2]


class Textbook(nn.Module):
    """One sentence at a time, one token at a time; nothing is computed ahead of its step."""

    def __init__(self, model: Seq2SeqAttn) -> None:
        super().__init__()
        e, h, n, a = SIZES.values()
        self.lstm = model.hparams.cell == "lstm"
        cell = nn.LSTMCell if self.lstm else nn.GRUCell
        self.source_embedding = nn.Embedding(SOURCE_VOCAB, e)
        self.forwards, self.backwards = cell(e, h), cell(e, h)
        self.start = nn.Linear(2 * h, n)
        self.energy = nn.Linear(n + 2 * h, a)
        self.v = nn.Parameter(torch.empty(a))
        self.target_embedding = nn.Embedding(TARGET_VOCAB, e)
        self.decoder = cell(e + 2 * h, n)
        self.output = nn.Linear(n + 2 * h + e, TARGET_VOCAB)
        with torch.no_grad():
            for mine, theirs in self.matched(model):
                mine.copy_(theirs)

    def matched(self, model: Seq2SeqAttn, grad: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """My parameters (or gradients), each with what the model has for it."""

        def take(parameter: Tensor) -> Tensor:
            return parameter.grad if grad else parameter

        modules = ("source_embedding", "start", "target_embedding", "output")
        for mine, theirs in [
            *((getattr(self, name), getattr(model, name)) for name in modules),
            (self.decoder, model.cell),
        ]:
            for name, parameter in mine.named_parameters():
                yield take(parameter), take(getattr(theirs, name))
        for cell, ending in ((self.forwards, "_l0"), (self.backwards, "_l0_reverse")):
            for name, parameter in cell.named_parameters():
                yield take(parameter), take(getattr(model.encoder, name + ending))
        both = torch.cat((take(model.query.weight), take(model.key.weight)), dim=1)
        yield take(self.energy.weight), both
        yield take(self.energy.bias), take(model.key.bias)
        yield take(self.v), take(model.energy.weight)[0]

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.source_embedding(source)
        annotations = []
        for cell, order in (
            (self.forwards, range(len(source))),
            (self.backwards, reversed(range(len(source)))),
        ):
            state, states = None, {}
            for j in order:
                state = cell(embedded[j], state)
                states[j] = state[0] if self.lstm else state
            annotations.append([states[j] for j in range(len(source))])
        first, second = annotations
        ends = torch.cat((first[-1], second[0]))
        h = torch.stack([torch.cat(pair) for pair in zip(first, second, strict=True)])
        return h, torch.tanh(self.start(ends))

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """One sentence: ids (S,), (T,) to logits (T, V) and attention (T, S)."""
        h, s = self.encode(source)
        c = torch.zeros_like(s)
        logits, attention = [], []
        for token in target:
            e = torch.stack([self.v @ torch.tanh(self.energy(torch.cat((s, h_j)))) for h_j in h])
            alpha = e.softmax(0)
            context = (alpha[:, None] * h).sum(0)
            y = self.target_embedding(token)
            fed = torch.cat((y, context))
            if self.lstm:
                s, c = self.decoder(fed, (s, c))
            else:
                s = self.decoder(fed, s)
            logits.append(self.output(torch.cat((s, context, y))))
            attention.append(alpha)
        return torch.stack(logits), torch.stack(attention)


@CELLS
def test_equals_the_equations_written_out_step_by_step(cell, pairs):
    source, target = pairs
    model = make_model(cell=cell)
    textbook = Textbook(model)
    output = model(source, target[:, :-1])
    total = tokens = 0
    for row in range(len(source)):
        s, t = source[row][source[row] != PAD], target[row][target[row] != PAD]
        logits, attention = textbook(s, t[:-1])
        ours = output.logits[row, : len(t) - 1]
        torch.testing.assert_close(ours, logits, atol=1e-5, rtol=1e-5)
        looks = output.attention[row, : len(t) - 1, : len(s)]
        torch.testing.assert_close(looks, attention, atol=1e-5, rtol=1e-5)
        total = total + F.cross_entropy(logits, t[1:], reduction="sum")
        tokens += len(t) - 1
    (total / tokens).backward()
    real = target[:, 1:] != PAD
    loss = F.cross_entropy(output.logits[real], target[:, 1:][real])
    torch.testing.assert_close(loss, total / tokens, atol=1e-5, rtol=1e-5)
    loss.backward()
    compared = list(textbook.matched(model, grad=True))
    assert sum(theirs.numel() for _, theirs in compared) == sum(
        parameter.numel() for parameter in model.parameters()
    )
    for mine, theirs in compared:
        torch.testing.assert_close(theirs, mine, atol=1e-5, rtol=1e-5)


@CELLS
def test_one_token_at_a_time_equals_the_whole_target(cell, pairs):
    source, target = pairs
    model = make_model(cell=cell).eval()
    memory = model.encode(source)
    whole = model.decode(target, memory, with_attention=True)
    state = model.first_state(memory)
    for step in range(target.shape[1]):
        output = model.step(target[:, step, None], state, memory)
        state = output.state
        logits = model.project(whole.features[:, step])
        torch.testing.assert_close(output.logits[:, 0], logits, atol=1e-5, rtol=1e-5)
        looks = whole.attention[:, step]
        torch.testing.assert_close(output.attention[:, 0], looks, atol=1e-5, rtol=1e-5)


def test_parameters_at_full_size_are_those_of_the_published_model():
    """The count of bentrevett's tutorial on Multi30k, lower-cased words of frequency 2."""
    model = Seq2SeqAttn(7853, 5893, embedding_size=256, encoder_size=512, hidden_size=512)
    assert sum(parameter.numel() for parameter in model.parameters()) == 20_518_405


def test_tied_weights_are_one_tensor(pairs):
    model = make_model(tie_weights=True)
    assert model.output.weight is model.target_embedding.weight
    assert len([name for name, _ in model.named_parameters() if "output.weight" in name]) == 0
    logits = model(*pairs).logits
    assert logits.shape[-1] == TARGET_VOCAB
    logits.sum().backward()
    assert model.target_embedding.weight.grad[:, 0].ne(0).all()  # every word is an output


@CELLS
def test_stacked_encoder_layers_feed_the_decoder_the_top_one(cell, pairs):
    source, target = pairs
    model = make_model(cell=cell, encoder_layers=2).eval()
    memory = model.encode(source)
    row = int((source != PAD).sum(1).argmin())
    alone = source[row][source[row] != PAD][None]
    values, last = model.encoder(model.source_embedding(alone))
    torch.testing.assert_close(memory.values[row, : alone.shape[1]], values[0])
    last = last[0] if cell == "lstm" else last
    ends = torch.cat((last[2, 0], last[3, 0]))
    torch.testing.assert_close(memory.start[row], model.start(ends).tanh())
    assert model(source, target).logits.isfinite().all()


def test_dropout_acts_in_training_alone(pairs):
    model = make_model(dropout=0.5)
    first, second = model(*pairs).logits, model(*pairs).logits
    assert not torch.allclose(first, second)
    model.eval()
    assert torch.equal(model(*pairs).logits, model(*pairs).logits)
