"""Beam search with length penalty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dlarch.decoding.history import History
from dlarch.decoding.protocol import Hypotheses, StepModel
from dlarch.decoding.ranking import top
from dlarch.decoding.state import reorder, select
from dlarch.errors import OptionError, check_at_least_1
from dlarch.spec import BOS, EOS, PAD


class _Finished(NamedTuple):
    """The best finished hypotheses so far, best first; all (R, K).

    Each is the hypothesis in `slot` before step `step`, followed by `token`.
    """

    score: Tensor
    step: Tensor
    slot: Tensor
    token: Tensor

    @classmethod
    def none(cls, size: int, count: int, device: torch.device) -> _Finished:
        """Places for `count` hypotheses of `size` sentences."""
        step, slot, token = torch.full((3, size, count), -1, device=device)
        return cls(torch.full((size, count), -math.inf, device=device), step, slot, token)

    def merge(self, other: _Finished) -> _Finished:
        """The best K of both."""
        both = _Finished(*(torch.cat(pair, 1) for pair in zip(self, other, strict=True)))
        best = both.score.topk(self.score.size(1)).indices
        return _Finished(*(field.gather(1, best) for field in both))


@torch.no_grad()
def beam_search(
    model: StepModel,
    token: Tensor,
    state: Any,
    memory: Any,
    max_length: int | Tensor,
    *,
    beam_size: int = 5,
    length_penalty: float = 1.0,
    n_best: int = 1,
    forbidden: Sequence[int] = (PAD, BOS),
    return_attention: bool = False,
    compact: bool = True,
) -> Hypotheses:
    """Find the best sequences, following the K = `beam_size` likeliest beginnings of each.

    A sequence scores `log p(sequence) / length ** length_penalty`, its length counting EOS. Each
    step ranks the continuations of the K hypotheses by log-probability. Those among the first K
    that end in EOS are finished; the best K that do not end go on. A sentence is done when K
    hypotheses are finished, or when `max_length` is reached, where those still going compete
    unfinished. This is the search of fairseq (arXiv 1904.01038) except that a hypothesis which
    finishes beyond the Kth may still replace a worse one. With `beam_size` 1 it is greedy decoding.

    Args:
        model: gives the steps.
        token: (B, 1) first token to read, usually BOS.
        state: nested tensors (B, 1, ...) before that token.
        memory: nested tensors (B, ...), or None.
        max_length: most tokens to generate, EOS included; one number or (B,).
        beam_size: hypotheses followed per sentence, K; may exceed the vocabulary.
        length_penalty: 0 prefers short sequences, larger values longer ones.
        n_best: hypotheses returned per sentence, N, at most `beam_size`.
        forbidden: ids that are never generated. The others keep the model's own probabilities.
        return_attention: also return the attention rows, if the model gives any.
        compact: drop finished sentences from the batch when that pays; the result is the same.

    Returns:
        The N best sequences, best first, with the scores above. Where fewer than N exist, the rest
        is padding with score -inf.

    Raises:
        OptionError: an option outside its range.
    """
    check_at_least_1(beam_size=beam_size)
    if not 1 <= n_best <= beam_size:
        raise OptionError(f"n_best must be from 1 to beam_size ({beam_size}), not {n_best}.")
    if not -10 <= length_penalty <= 10:
        raise OptionError(f"length_penalty must be from -10 to 10, not {length_penalty}.")
    size, device = token.size(0), token.device
    history = History(token, max_length, compact)
    if not history.longest:  # an empty batch
        return Hypotheses(token.new_zeros(0, n_best, 0), torch.zeros(0, n_best, device=device))

    banned = torch.tensor(forbidden, dtype=torch.long, device=device)
    results = _Finished.none(size, beam_size, device)
    finished = _Finished.none(size, beam_size, device)
    score = torch.zeros(size, 1, device=device)  # the first step has one hypothesis
    for step in range(1, history.longest + 1):
        output = model.step(token, state, memory)
        total = output.log_probability(banned).add_(score.unsqueeze(-1))
        candidate, origin, token = _candidates(total, 2 * beam_size)
        ends = token == EOS
        # At most K of the 2K end, one for each hypothesis; a stable sort keeps the others ranked.
        going_on = ends.byte().argsort(dim=1, stable=True)[:, :beam_size]
        ended = candidate[:, :beam_size].masked_fill(~ends[:, :beam_size], -math.inf)
        now = torch.full_like(origin[:, :beam_size], step)
        scale = float(step) ** length_penalty
        finished = finished.merge(
            _Finished(ended / scale, now, origin[:, :beam_size], token[:, :beam_size])
        )
        score, origin, token = (tensor.gather(1, going_on) for tensor in (candidate, origin, token))
        score = score.masked_fill(ends.gather(1, going_on), -math.inf)
        done = (finished.score[:, -1] > -math.inf) | (score[:, 0] == -math.inf)
        if step in history.stops:
            last = (history.limits <= step) & ~done
            unfinished = score.masked_fill(~last.unsqueeze(1), -math.inf) / scale
            finished = finished.merge(_Finished(unfinished, now, origin, token))
            done = done | last
        score = score.masked_fill(done.unsqueeze(1), -math.inf)
        if return_attention and output.attention is not None:
            history.append(token, origin, output.attention.expand(-1, beam_size, -1))
        else:
            history.append(token, origin)
        state = reorder(output.state, origin) if beam_size > 1 else output.state
        going = history.survivors(done)
        if going is None:
            continue
        if not going.numel():
            break
        for whole, part in zip(results, finished, strict=True):
            history.restore(whole, part)
        token, state, memory, score, finished = select(
            (token, state, memory, score, finished), going
        )
        history.keep(going)
    for whole, part in zip(results, finished, strict=True):
        history.restore(whole, part)
    best = _Finished(*(field[:, :n_best] for field in results))
    best = best._replace(step=best.step.masked_fill(best.score == -math.inf, -1))
    return _follow(best, *history.stack()).trimmed()


def _candidates(total: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of each sentence, best first.

    Args:
        total: (R, K, V) log-probabilities of hypothesis and next token.
        count: how many to give, C; where fewer exist, the rest scores -inf.

    Returns:
        Log-probability, hypothesis in 0..K-1 and token, all (R, C).
    """
    vocabulary = total.size(-1)
    total = total.flatten(1)
    score, place = top(total, min(count, total.size(1)))
    missing = count - score.size(1)
    if missing > 0:
        score = functional.pad(score, (0, missing), value=-math.inf)
        place = functional.pad(place, (0, missing))
    origin = place.div(vocabulary, rounding_mode="floor")
    return score, origin, place - origin * vocabulary


def _follow(
    best: _Finished, tokens: Tensor, origins: Tensor, attentions: Tensor | None = None
) -> Hypotheses:
    """Read hypotheses from their ends to their beginnings.

    Args:
        best: ends of the hypotheses (B, N); step -1 where there is none.
        tokens: (B, K, L) token that step l put into slot k.
        origins: (B, K, L) slot which that token continued.
        attentions: (B, K, L, S) attention of step l for the slot it continued, or None.
    """
    out = torch.zeros(*best.score.shape, tokens.size(2), dtype=tokens.dtype, device=tokens.device)
    out_attention = None
    if attentions is not None:
        out_attention = attentions.new_zeros(*out.shape, attentions.size(-1))
    slot = best.slot.clamp(min=0)
    for place in reversed(range(tokens.size(2))):
        last = best.step == place + 1
        inside = best.step > place + 1
        token = tokens[:, :, place].gather(1, slot)
        out[:, :, place] = torch.where(last, best.token, token.masked_fill(~inside, PAD))
        # A hypothesis is entered through its own slot; before its end nothing moves.
        slot = torch.where(inside, origins[:, :, place].gather(1, slot), slot)
        if attentions is not None and out_attention is not None:
            rows = attentions[:, :, place].gather(
                1, slot.unsqueeze(-1).expand(-1, -1, attentions.size(-1))
            )
            out_attention[:, :, place] = rows.masked_fill(~(last | inside).unsqueeze(-1), 0)
    return Hypotheses(out, best.score, out_attention)
