"""Translating with a trained model: greedy, beam search and sampling, on text as it is written."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dlarch.decoding import Hypotheses, StepOutput, beam_search, greedy, sample
from dlarch.errors import DataError, MismatchError, OptionError
from dlarch.processing import TranslationProcessor
from dlarch.spec import BOS
from dlarch.tasks.base import Task

MAX_LENGTH = 200
"""Longest translation when the processor knows no longest training target."""


class DecoderOutput(NamedTuple):
    """Features (B, T, F) that `project` turns into logits; attention (B, T, S), or None."""

    features: Tensor
    attention: Tensor | None


class DecoderStep(NamedTuple):
    """Features (B, K, F) of one step, the state after it, and attention (B, K, S), or None."""

    features: Tensor
    state: Any
    attention: Tensor | None


class Translator(Task):
    """Searches for the best target of a source, one token at a time.

    A model offers `encode`, `first_state`, `decode`, `advance` and `project`: `decode` writes a
    known target in one go, `advance` one token for each hypothesis; both go on to logits by
    `project`, so that the loss can leave padding out of the largest product.
    """

    processor: TranslationProcessor | None

    longest: int | None = None
    """Tokens that a target can have at most, if the model has a limit."""

    decoding: Mapping[str, Any] = MappingProxyType({})
    """Options of `search` in test and predict, as `decode_with` sets them."""

    # ---- what a model defines

    @abstractmethod
    def encode(self, source: Tensor) -> Any:
        """Source ids (B, S) to a memory: a NamedTuple of tensors that lead with B."""

    @abstractmethod
    def first_state(self, memory: Any) -> Any:
        """The decoder's state before the first token: tensors that lead with (B, 1)."""

    @abstractmethod
    def decode(self, target: Tensor, memory: Any, with_attention: bool = False) -> DecoderOutput:
        """Feed a known target (B, T), one prediction per token fed."""

    @abstractmethod
    def advance(self, token: Tensor, state: Any, memory: Any) -> DecoderStep:
        """Feed one token per hypothesis, (B, K)."""

    @abstractmethod
    def project(self, features: Tensor) -> Tensor:
        """Features (..., F) to logits (..., V)."""

    def attention_maps(self, source: Tensor, target: Tensor) -> Tensor | None:
        """What each token of a target looked at: (B, T, S), or (B, layers, heads, T, S)."""
        return self.decode(target, self.encode(source), with_attention=True).attention

    def step(self, token: Tensor, state: Any, memory: Any) -> StepOutput:
        """Feed one token per hypothesis, (B, K), and predict the next."""
        features, state, attention = self.advance(token, state, memory)
        return StepOutput(self.project(features), state, attention)

    # ---- translating

    def decode_with(self, beam: int = 1, length_penalty: float = 1.0) -> None:
        """Choose how test and predict search; validation is always greedy.

        Raises:
            OptionError: an option outside its range.
        """
        _check_options(beam, length_penalty, n_best=1, temperature=0.0)
        if beam == 1 and length_penalty != 1.0:
            raise OptionError("length_penalty needs a beam of several hypotheses, such as beam 5.")
        self.decoding = {"beam": beam, "length_penalty": length_penalty}

    def search(
        self,
        source: Tensor,
        *,
        beam: int = 1,
        length_penalty: float = 1.0,
        n_best: int = 1,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        max_length: int | None = None,
        generator: torch.Generator | None = None,
        return_attention: bool = False,
    ) -> Hypotheses:
        """Translate ids (B, S): greedy, beam search, or sampling with a temperature above 0.

        Returns:
            `n_best` hypotheses per source, best first (in the order drawn, for samples).

        Raises:
            OptionError: an option outside its range.
        """
        _check_options(beam, length_penalty, n_best, temperature)
        max_length = self._max_length(max_length)
        memory = self.encode(source)
        state = self.first_state(memory)
        token = torch.full((len(source), 1), BOS, dtype=torch.long, device=source.device)
        options: dict[str, Any] = {"max_length": max_length, "return_attention": return_attention}
        if temperature > 0:
            return sample(
                self, token, state, memory, temperature=temperature, top_k=top_k,
                top_p=1.0 if top_p is None else top_p,
                num_samples=n_best, generator=generator, **options,
            )  # fmt: skip
        if beam > 1 or n_best > 1:
            return beam_search(
                self, token, state, memory, beam_size=max(beam, n_best),
                length_penalty=length_penalty, n_best=n_best, **options,
            )  # fmt: skip
        return greedy(self, token, state, memory, **options)

    def _max_length(self, asked: int | None) -> int:
        if asked is not None:
            if self.longest is not None and asked > self.longest:
                raise OptionError(
                    f"This model writes at most {self.longest} tokens, max_length is {asked}."
                )
            return asked
        known = getattr(self.processor, "max_target_length", None)
        usual = known if known is not None else MAX_LENGTH
        return usual if self.longest is None else min(usual, self.longest)

    @torch.inference_mode()
    def translate(
        self,
        texts: Sequence[str],
        *,
        beam: int = 1,
        length_penalty: float = 1.0,
        n_best: int = 1,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        max_length: int | None = None,
        batch_size: int = 64,
        seed: int | None = None,
    ) -> list[str] | list[list[str]]:
        """Translate sentences as they are written.

        Args:
            texts: sentences in the source language.
            beam: hypotheses kept per sentence; 1 is greedy decoding.
            length_penalty: beam scores are divided by length to this power.
            n_best: translations per sentence; above 1 a list per sentence is returned.
            temperature: above 0, draw the translation instead; 1 is the model's distribution.
            top_k: draw among the k most probable tokens.
            top_p: draw among the fewest tokens that hold this share of the probability.
            max_length: tokens at the most; half as many again as in training when not given.
            batch_size: sentences translated at a time.
            seed: of the draws.

        Returns:
            One translation per sentence, in the order given; a list of `n_best` when above 1.

        Raises:
            DataError: the sentences are no list of texts.
            OptionError: an option outside its range.
            MismatchError: the model has no processor to read text with.
        """
        _check_texts(texts)
        _check_options(beam, length_penalty, n_best, temperature)
        _check_count("batch_size", batch_size)
        if temperature == 0 and (top_k is not None or top_p is not None):
            raise OptionError("top_k and top_p need a temperature above 0, such as 1.")
        if temperature > 0 and beam > 1:
            raise OptionError("Either draw (temperature) or search (beam), not both.")
        processor = self._own_processor()
        generator = None
        if seed is not None:
            generator = torch.Generator(self.device).manual_seed(seed)
        training = self.training
        self.eval()
        found: list[list[str]] = [[] for _ in texts]
        try:
            for rows, source in self._by_length(texts, processor, batch_size):
                hypotheses = self.search(
                    source.to(self.device), beam=beam, length_penalty=length_penalty,
                    n_best=n_best, temperature=temperature, top_k=top_k, top_p=top_p,
                    max_length=max_length, generator=generator,
                )  # fmt: skip
                for row, tokens in zip(rows, hypotheses.tokens.cpu(), strict=True):
                    found[row] = processor.decode(tokens)
        finally:
            self.train(training)
        return found if n_best > 1 else [translations[0] for translations in found]

    @staticmethod
    def _by_length(
        texts: Sequence[str], processor: TranslationProcessor, batch_size: int
    ) -> Iterator[tuple[list[int], Tensor]]:
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for at in range(0, len(order), batch_size):
            rows = order[at : at + batch_size]
            yield rows, processor.encode([texts[row] for row in rows]).source

    def _own_processor(self) -> TranslationProcessor:
        if self.processor is None:
            raise MismatchError(
                "This model has no processor to read text with: train it on a dlarch data module, "
                "or set model.processor."
            )
        return self.processor


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise DataError("Give a list of sentences, not one sentence.")
    for place, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise DataError(f"Sentence {place} must be a text, not {text!r:.80}.")


def _check_options(beam: int, length_penalty: float, n_best: int, temperature: float) -> None:
    """Refuse also what the chosen way to decode has no use for."""
    _check_count("beam", beam)
    _check_count("n_best", n_best)
    if not -10 <= length_penalty <= 10:
        raise OptionError(f"length_penalty must be from -10 to 10, not {length_penalty}.")
    if not 0 <= temperature < math.inf:
        raise OptionError(f"temperature must be a number from 0 up, not {temperature}.")


def _check_count(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise OptionError(f"{name} must be a whole number from 1 up, not {value}.")
