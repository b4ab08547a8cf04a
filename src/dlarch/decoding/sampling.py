"""Greedy decoding and sampling: each hypothesis goes its own way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from dlarch.decoding.history import History
from dlarch.decoding.protocol import Hypotheses, StepModel
from dlarch.decoding.ranking import top
from dlarch.decoding.state import expand, has_tensors, map_tensors, select
from dlarch.errors import OptionError, check_at_least_1
from dlarch.spec import BOS, EOS, PAD

Choice = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From log-probabilities (R, K, V) and the rows (R,) they belong to: log-probability and id of the
chosen tokens, both (R, K)."""


@torch.no_grad()
def greedy(
    model: StepModel,
    token: Tensor,
    state: Any,
    memory: Any,
    max_length: int | Tensor,
    *,
    forbidden: Sequence[int] = (PAD, BOS),
    return_attention: bool = False,
    compact: bool = True,
) -> Hypotheses:
    """Take the likeliest token at each step, for a batch of sentences.

    Args:
        model: gives the steps.
        token: (B, 1) first token to read, usually BOS.
        state: nested tensors (B, 1, ...) before that token.
        memory: nested tensors (B, ...), or None.
        max_length: most tokens to generate, EOS included; one number or (B,).
        forbidden: ids that are never generated. The others keep the model's own probabilities.
        return_attention: also return the attention rows, if the model gives any.
        compact: drop finished sentences from the batch when that pays; the result is the same.

    Returns:
        One hypothesis per sentence (N = 1) with its log-probability, EOS included.

    Raises:
        OptionError: `max_length` below 1.
    """

    def likeliest(log_probability: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        return top(log_probability.squeeze(1), 1)

    history = History(token, max_length, compact)
    return _decode(model, token, state, memory, history, 1, likeliest, forbidden, return_attention)


@torch.no_grad()
def sample(
    model: StepModel,
    token: Tensor,
    state: Any,
    memory: Any,
    max_length: int | Tensor,
    *,
    num_samples: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
    forbidden: Sequence[int] = (PAD, BOS),
    return_attention: bool = False,
    compact: bool = True,
) -> Hypotheses:
    """Draw tokens from the model's distribution, or from its better part.

    The restrictions apply in this order: forbidden ids, temperature, top-k, nucleus. One uniform
    number per hypothesis and step turns into a token by the inverse of the distribution function,
    so a sample depends on the generator alone, not on which sentences have finished.

    Args:
        model: gives the steps.
        token: (B, 1) first token to read, usually BOS.
        state: nested tensors (B, 1, ...) before that token.
        memory: nested tensors (B, ...), or None.
        max_length: most tokens to generate, EOS included; one number or (B,).
        num_samples: independent samples per sentence, N.
        temperature: divides the log-probabilities; 0 is greedy, all samples being equal.
        top_k: draw from that many likeliest tokens; None for all.
        top_p: draw from the smallest set of likeliest tokens whose probability reaches this
            (Holtzman et al., arXiv 1904.09751); at least one token.
        generator: source of randomness, on any device; None for PyTorch's global one.
        forbidden: ids that are never generated.
        return_attention: also return the attention rows, if the model gives any.
        compact: drop finished sentences from the batch when that pays; the result is the same.

    Returns:
        N samples per sentence, in no order, with their log-probabilities under the model itself:
        temperature 1, nothing cut off, EOS included.

    Raises:
        OptionError: an option outside its range.
    """
    check_at_least_1(num_samples=num_samples)
    _check(temperature, top_k, top_p)
    if temperature == 0:
        best = greedy(
            model,
            token,
            state,
            memory,
            max_length,
            forbidden=forbidden,
            return_attention=return_attention,
            compact=compact,
        )
        return expand(best, num_samples)

    size, count = token.size(0), num_samples
    folded = not has_tensors(memory)
    if folded:  # nothing is shared, so each sample may be a sentence and leave when it is finished
        token, state = map_tensors(
            lambda tensor: tensor.repeat_interleave(count, dim=0), (token, state)
        )
        if isinstance(max_length, Tensor) and max_length.dim():
            max_length = max_length.repeat_interleave(count)
        count = 1

    device = token.device if generator is None else generator.device
    shape = (token.size(0), count)

    def drawn(log_probability: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        uniform = torch.rand(shape, generator=generator, device=device)
        uniform = uniform.to(log_probability.device, non_blocking=True)[rows]
        log_probability = log_probability.expand(-1, count, -1)
        chosen = draw(log_probability, uniform, temperature, top_k, top_p)
        return log_probability.gather(-1, chosen.unsqueeze(-1)).squeeze(-1), chosen

    history = History(token, max_length, compact)
    samples = _decode(
        model, token, state, memory, history, count, drawn, forbidden, return_attention
    )
    if folded:
        samples = map_tensors(
            lambda tensor: tensor.squeeze(1).unflatten(0, (size, num_samples)), samples
        )
    return samples


@torch.no_grad()
def sample_stream(
    model: StepModel,
    token: Tensor,
    state: Any,
    memory: Any,
    max_length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
    forbidden: Sequence[int] = (PAD, BOS),
) -> Iterator[int]:
    """Draw one sequence and hand out each token as soon as it is known.

    With the same generator these are the tokens of `sample`, whose arguments they are.

    Args:
        model: gives the steps.
        token: (1, 1) first token to read.
        state: nested tensors (1, 1, ...) before that token.
        memory: nested tensors (1, ...), or None.
        max_length: most tokens to generate, EOS included.
        temperature: as for `sample`.
        top_k: as for `sample`.
        top_p: as for `sample`.
        generator: as for `sample`.
        forbidden: ids that are never generated.

    Yields:
        Ids, without EOS.

    Raises:
        OptionError: an option outside its range.
    """
    _check(temperature, top_k, top_p)
    banned = torch.tensor(forbidden, dtype=torch.long, device=token.device)
    device = token.device if generator is None else generator.device
    for _ in range(max_length):
        output = model.step(token, state, memory)
        state, log_probability = output.state, output.log_probability(banned)
        if temperature == 0:
            token = top(log_probability.squeeze(1), 1)[1]
        else:
            uniform = torch.rand((1, 1), generator=generator, device=device).to(token.device)
            token = draw(log_probability, uniform, temperature, top_k, top_p)
        if int(token) == EOS:
            return
        yield int(token)


def _check(temperature: float, top_k: int | None, top_p: float) -> None:
    if not 0 <= temperature < math.inf:
        raise OptionError(f"temperature must be a number from 0 up, not {temperature}.")
    if top_k is not None and top_k < 1:
        raise OptionError(f"top_k must be at least 1, or None for all tokens, not {top_k}.")
    if not 0 < top_p <= 1:
        raise OptionError(f"top_p must be above 0 and at most 1, not {top_p}.")


def draw(
    log_probability: Tensor,
    uniform: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
) -> Tensor:
    """Turn uniform numbers into tokens.

    Args:
        log_probability: (..., V), -inf where a token is impossible.
        uniform: (...) numbers in [0, 1).
        temperature: as for `sample`, above 0.
        top_k: as for `sample`.
        top_p: as for `sample`.

    Returns:
        (...) ids. A token of probability 0 is never drawn.
    """
    scaled = log_probability
    if temperature != 1:  # relative to the best, so that a tiny temperature leaves it at 0
        best = log_probability.amax(-1, keepdim=True)
        scaled = (log_probability - best) / max(temperature, 1e-9)
    order = None
    if top_k is not None or top_p < 1:
        size = scaled.size(-1)
        scaled, order = scaled.topk(size if top_k is None else min(top_k, size), dim=-1)
    probability = scaled.softmax(-1)
    cumulative = probability.cumsum(-1)
    if top_p < 1:
        probability = probability.masked_fill(cumulative - probability >= top_p, 0)
        cumulative = probability.cumsum(-1)
    point = uniform.unsqueeze(-1) * cumulative[..., -1:]
    place = torch.searchsorted(cumulative, point, right=True).clamp_(max=scaled.size(-1) - 1)
    # Rounding in the sums may point at a token of probability 0: take the likeliest instead.
    possible = probability.gather(-1, place) > 0
    best = top(probability.flatten(0, -2), 1)[1].view_as(place)
    place = torch.where(possible, place, best)
    return (place if order is None else order.gather(-1, place)).squeeze(-1)


def _decode(
    model: StepModel,
    token: Tensor,
    state: Any,
    memory: Any,
    history: History,
    count: int,
    choose: Choice,
    forbidden: Sequence[int],
    return_attention: bool,
) -> Hypotheses:
    """Run `count` hypotheses per sentence, each with tokens of its own choice."""
    if not history.longest:  # an empty batch
        return Hypotheses(token.new_zeros(0, count, 0), torch.zeros(0, count, device=token.device))
    limits = history.limits
    banned = torch.tensor(forbidden, dtype=torch.long, device=token.device)
    done = torch.zeros(token.size(0), count, dtype=torch.bool, device=token.device)
    for step in range(1, history.longest + 1):
        output = model.step(token, state, memory)
        gain, token = choose(output.log_probability(banned), history.rows)
        if return_attention and output.attention is not None:
            history.append(token, gain, output.attention.expand(-1, count, -1))
        else:
            history.append(token, gain)
        state = output.state
        if step == 1 and count > 1:  # the hypotheses are one until their first tokens differ
            state = expand(state, count)
        done = done | (token == EOS)
        if step in history.stops:
            done = done | (history.limits <= step).unsqueeze(1)
        going = history.survivors(done.all(1))
        if going is None:
            continue
        if not going.numel():
            break
        token, state, memory, done = select((token, state, memory, done), going)
        history.keep(going)
    tokens, gains, *attention = history.stack()
    # What followed the end or the limit was decoded only because the batch went on.
    ended = (tokens == EOS).cumsum(-1)
    place = torch.arange(tokens.size(-1), device=tokens.device)
    beyond = (ended - (tokens == EOS).long() > 0) | (place >= limits.view(-1, 1, 1))
    return Hypotheses(
        tokens.masked_fill(beyond, PAD),
        gains.masked_fill(beyond, 0).sum(-1),
        *(rows.masked_fill(beyond.unsqueeze(-1), 0) for rows in attention),
    ).trimmed()
