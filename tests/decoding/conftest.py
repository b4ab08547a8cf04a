"""Small random recurrent models with an attention, and slow decoders to compare with."""

import itertools
import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from dlarch.decoding import Hypotheses, StepOutput
from dlarch.spec import BOS, EOS, PAD


class Memory(NamedTuple):
    encoded: Tensor  # (B, S, N)
    mask: Tensor  # (B, S)


class State(NamedTuple):
    hidden: Tensor  # (B, K, N)
    more: tuple[Tensor, None]  # (B, K), tokens read so far


class RandomGRU(nn.Module):
    """A GRU decoder with dot-product attention; it also records the sizes it was called with."""

    def __init__(self, seed: int, vocabulary: int = 7, size: int = 8, end_bias: float = 0.0):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(vocabulary, size)
        self.cell = nn.GRUCell(2 * size, size)
        self.output = nn.Linear(size, vocabulary)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.9)
        with torch.no_grad():
            self.output.bias[EOS] += end_bias
        self.size, self.vocabulary = size, vocabulary
        self.seen: list[tuple[int, int]] = []

    def step(self, token: Tensor, state: State, memory: Memory | None) -> StepOutput:
        rows, count = token.shape
        self.seen.append((rows, count))
        hidden, (read, nothing) = state
        assert hidden.shape == (rows, count, self.size)
        assert read.shape == (rows, count)
        assert nothing is None
        attention, context = None, torch.zeros_like(hidden)
        if memory is not None:
            assert memory.encoded.size(0) == memory.mask.size(0) == rows  # never per hypothesis
            energy = (hidden @ memory.encoded.mT).masked_fill(~memory.mask[:, None], -math.inf)
            attention = energy.softmax(-1)
            context = attention @ memory.encoded
        inputs = torch.cat([self.embedding(token), context], -1)
        hidden = self.cell(inputs.flatten(0, 1), hidden.flatten(0, 1)).view(hidden.shape)
        return StepOutput(self.output(hidden), State(hidden, (read + 1, None)), attention)

    def start(self, lengths: list[int], seed: int = 0) -> dict[str, Any]:
        """Arguments to decode sentences of these source lengths."""
        generator = torch.Generator().manual_seed(seed)
        size, longest = len(lengths), max(lengths)
        encoded = torch.randn(size, longest, self.size, generator=generator)
        hidden = torch.randn(size, 1, self.size, generator=generator)
        mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
        return {
            "token": torch.full((size, 1), BOS),
            "state": State(hidden, (torch.zeros(size, 1, dtype=torch.long), None)),
            "memory": Memory(encoded, mask),
        }


class Reader:
    """Log-probabilities after a prefix, for one sentence, PAD and BOS excluded."""

    def __init__(self, model: RandomGRU, start: dict[str, Any]) -> None:
        self.model, self.memory = model, start["memory"]
        self.first = start["state"]
        self.states: dict[tuple[int, ...], Any] = {}  # after BOS and the prefix
        self.found: dict[tuple[int, ...], list[float]] = {}

    def __call__(self, prefix: tuple[int, ...]) -> list[float]:
        if prefix not in self.found:
            before, token = self.first, BOS
            if prefix:
                self(prefix[:-1])
                before, token = self.states[prefix[:-1]], prefix[-1]
            with torch.no_grad():
                output = self.model.step(torch.tensor([[token]]), before, self.memory)
            self.states[prefix] = output.state
            scores = output.logits[0, 0].double().log_softmax(-1).tolist()
            scores[PAD] = scores[BOS] = -math.inf
            self.found[prefix] = scores
        return self.found[prefix]


def sentence(start: dict[str, Any], row: int) -> dict[str, Any]:
    """Arguments for one sentence of `start`, without its source padding."""
    (hidden, (read, _)), (encoded, mask) = start["state"], start["memory"]
    length, one = int(mask[row].sum()), slice(row, row + 1)
    return {
        "token": start["token"][one],
        "state": State(hidden[one], (read[one], None)),
        "memory": Memory(encoded[one, :length], mask[one, :length]),
    }


def all_sequences(next_scores: Reader, limit: int) -> dict[tuple, float]:
    """Log-probability of every sequence that ends or reaches `limit`, for one sentence."""
    words = [i for i in range(next_scores.model.vocabulary) if i not in (PAD, BOS, EOS)]
    found: dict[tuple, float] = {}
    scores: dict[tuple, float] = {(): 0.0}
    for length in range(limit):
        for prefix in itertools.product(words, repeat=length):
            following = next_scores(prefix)
            for token in (*words, EOS):
                longer = (*prefix, token)
                scores[longer] = scores[prefix] + following[token]
                if token == EOS or len(longer) == limit:
                    found[longer] = scores[longer]
    return found


def ids(hypotheses: Hypotheses, row: int, place: int = 0) -> tuple[int, ...]:
    """The tokens of one hypothesis without padding."""
    return tuple(token for token in hypotheses.tokens[row, place].tolist() if token != PAD)


class Tools(NamedTuple):
    model: type[RandomGRU]
    reader: type[Reader]
    sentence: Any
    all_sequences: Any
    ids: Any


@pytest.fixture(scope="session")
def tools() -> Tools:
    return Tools(RandomGRU, Reader, sentence, all_sequences, ids)
