"""The step protocol: what a model offers to be decoded, and what decoding gives back.

B is the number of sentences, K of hypotheses per sentence, N of hypotheses given back, S the
source length, L the generated length, V the vocabulary.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dlarch.spec import PAD


class StepOutput(NamedTuple):
    """What a model says after reading one more token of each hypothesis.

    Attributes:
        logits: (B, K, V) for the next token, of any floating type.
        state: the new state; its tensors lead with (B, K, ...).
        attention: (B, K, S) weights that the step gave to the source, or None.
    """

    logits: Tensor
    state: Any
    attention: Tensor | None = None

    def log_probability(self, forbidden: Tensor) -> Tensor:
        """The model's own log-probabilities (B, K, V) in float32, then -inf at `forbidden` ids."""
        scores = self.logits.log_softmax(-1, dtype=torch.float32)
        return scores.index_fill_(-1, forbidden, -math.inf)


class StepModel(Protocol):
    """An autoregressive model, one token at a time, with nothing hidden on the module.

    `state` is what changes from step to step (hidden vectors, cached keys): a NamedTuple, which may
    nest tuples and None, of tensors that lead with (B, K, ...), or with (B, ...) in a
    `PerSentence`, which the hypotheses of a sentence share. `memory` is what stays (encoder states,
    attention keys, source mask): a NamedTuple of tensors that lead with (B, ...), or None. It is
    kept once per sentence, so the model broadcasts it over K. B shrinks when finished sentences are
    dropped and K grows from 1 after the first step, and only then: read both off `token`.
    """

    def step(self, token: Tensor, state: Any, memory: Any) -> StepOutput:
        """Read `token` (B, K) in `state` and give the logits of what follows."""
        ...


class Hypotheses(NamedTuple):
    """Decoded sequences, best first where they are ranked.

    Attributes:
        tokens: (B, N, L) ids, EOS included where it was reached, padded with `PAD` on the right.
        scores: (B, N) float32; what they measure is said by the function that gives them.
        attention: (B, N, L, S), zero after the end, or None if not asked for or not offered.
    """

    tokens: Tensor
    scores: Tensor
    attention: Tensor | None = None

    def trimmed(self) -> Hypotheses:
        """Without the last columns that are padding everywhere."""
        used = self.tokens.ne(PAD).flatten(0, 1).any(0).nonzero()
        length = int(used[-1]) + 1 if len(used) else 0
        attention = None if self.attention is None else self.attention[:, :, :length]
        return Hypotheses(self.tokens[:, :, :length], self.scores, attention)
