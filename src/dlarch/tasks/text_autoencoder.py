"""The task of squeezing a text into one vector, its code, and writing it again from that alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchmetrics import Metric

from dlarch.batches import TextBatch
from dlarch.callbacks.reconstructions import Reconstruction, Reconstructions
from dlarch.decoding import greedy
from dlarch.errors import MismatchError, OptionError
from dlarch.processing.translation import pad
from dlarch.processing.words import split_words
from dlarch.spec import BOS, EOS, PAD, DataSpec
from dlarch.tasks.base import InitializerCallable, OptimizerCallable, SchedulerCallable
from dlarch.tasks.examples import random_texts
from dlarch.tasks.metrics import CorpusBleu, Ratio
from dlarch.tasks.translation import DECODED_IN_VALIDATION
from dlarch.tasks.writer import UNWRITTEN, Given, Writer

SHOWN = 8
"""Validation texts, the first ones, that the pictures show."""

STEPS = 7
"""Texts of an interpolation between two of them."""

Found = TypeVar("Found")


class CodeDecoder(Protocol):
    """Writes texts from codes (B, D): what a model of this task makes as its `decoder`."""

    def start(self, code: Tensor) -> Any:
        """The state before the first token, with the code in it: tensors that lead with (B, 1)."""
        ...

    def read(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Features (B, T, F) after each of the tokens (B, T), and the state after the last."""
        ...

    def advance(self, token: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Features (B, K, F) after one token per hypothesis (B, K), and the state."""
        ...

    def project(self, features: Tensor) -> Tensor:
        """Features (..., F) to logits (..., V)."""
        ...


class TextAutoencoder(Writer):
    """Squeeze a text into a code, and write the text from the code.

    A model makes a `decoder`, see `CodeDecoder`, and offers `encode`. How well it reconstructs is
    scored by greedy decoding: of the first 1,000 validation texts, and of all of the test.

    Args:
        optimizer: called with the parameters.
        scheduler: called with the optimizer.
        initializer: of the weights; torch's own when not given.
        pictures: write reconstructions and interpolations at each validation.
    """

    batch_type = TextBatch
    monitor = ("val/loss", "min")
    headline = "test/exact_match"
    writes_alone: ClassVar[bool] = False

    decoder: CodeDecoder

    def __init__(
        self,
        optimizer: OptimizerCallable,
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer, scheduler=scheduler, pictures=pictures, initializer=initializer
        )
        self._shown: dict[int, list[int]] = {}  # ids of texts by their place

    # ---- what a model defines

    @abstractmethod
    def encode(self, tokens: Tensor) -> Tensor:
        """Codes (B, D) of texts (B, T)."""

    @abstractmethod
    def training_step(self, batch: Sequence[Any], _: int) -> Tensor:
        """The batch's loss."""

    @abstractmethod
    def score(self, batch: TextBatch) -> None:
        """Score a batch of validation or test by what is not free decoding."""

    @classmethod
    def example(cls, size: int, seed: int) -> tuple[DataSpec, TextBatch]:
        """A tiny spec and a batch of random texts of mixed lengths."""
        return DataSpec(vocab_size=11), random_texts(size, seed)

    def forward(self, tokens: Tensor) -> Tensor:
        """Reconstruct: logits (B, T - 1, V) of each token but the first, those before being fed.

        Args:
            tokens: ids (B, T), the first of each row BOS.
        """
        features, _ = self.decoder.read(tokens[:, :-1], self.decoder.start(self.encode(tokens)))
        return self.project(features)

    # ---- writing token by token, see `Writer`

    def start(self, count: int) -> Any:
        """The state of texts of which nothing is known."""
        return self.begin(count, None)

    def begin(self, count: int, generator: torch.Generator | None) -> Any:  # noqa: ARG002
        """There is nothing to begin with.

        Raises:
            MismatchError: always; models whose codes have a distribution draw one.
        """
        raise MismatchError(
            f"{type(self).__name__} knows no distribution of codes that texts could be drawn from: "
            "call model.reconstruct or model.interpolate, or train sentence_vae."
        )

    def read(self, tokens: Tensor, state: Any, given: Given) -> tuple[Tensor, Any]:  # noqa: ARG002
        """Features (B, T, F) after each of the tokens (B, T), and the state after the last."""
        return self.decoder.read(tokens, state)

    def advance(self, token: Tensor, state: Any, given: Given) -> tuple[Tensor, Any]:  # noqa: ARG002
        """Features (B, K, F) after one token per hypothesis (B, K), and the state."""
        return self.decoder.advance(token, state)

    def project(self, features: Tensor) -> Tensor:
        """Features (..., F) to logits (..., V)."""
        return self.decoder.project(features)

    # ---- teacher forcing

    def predict_tokens(self, tokens: Tensor, code: Tensor, fed: Tensor | None = None) -> Tensor:
        """Logits (n, V) of the n real tokens but the first of each text, row after row.

        Args:
            tokens: the texts, (B, T).
            code: of each, (B, D).
            fed: (B, T - 1), what the decoder reads; the tokens before when not given.
        """
        known = tokens[:, :-1] if fed is None else fed
        features, _ = self.decoder.read(known, self.decoder.start(code))
        return self.project(features[tokens[:, 1:] != PAD])

    def nats(self, tokens: Tensor, code: Tensor, fed: Tensor | None = None) -> Tensor:
        """-log p(text | code) of each text, (B,), summed over its tokens; see `predict_tokens`."""
        targets = tokens[:, 1:]
        real = targets != PAD
        logits = self.predict_tokens(tokens, code, fed).float()
        losses = logits.new_zeros(targets.shape)
        losses[real] = F.cross_entropy(logits, targets[real], reduction="none")
        return losses.sum(1)

    # ---- validation and test

    def metrics(self, stage: str) -> dict[str, Metric]:  # noqa: ARG002
        """Loss; and of greedy decoding whole texts, their tokens in their places, and BLEU."""
        return {
            "loss": Ratio(),
            "exact_match": Ratio(),
            "greedy_accuracy": Ratio(),
            "bleu_tokens": CorpusBleu(tokenize="none", lowercase=True),
        }

    def on_validation_epoch_start(self) -> None:
        """Start the epoch's metrics and the texts that are shown."""
        super().on_validation_epoch_start()
        self._shown = {}

    def validation_step(self, batch: Sequence[Any], _: int) -> None:
        """Score a batch; decode those of its texts that are among the first 1,000."""
        texts = TextBatch(*batch)
        self.score(texts)
        self._keep_shown(texts)
        tokens = texts.tokens
        if texts.example is not None:
            tokens = tokens[texts.example < DECODED_IN_VALIDATION]
        self._score_free(tokens)

    def test_step(self, batch: Sequence[Any], batch_index: int) -> None:  # noqa: ARG002
        """Score and decode a batch."""
        texts = TextBatch(*batch)
        self.score(texts)
        self._score_free(texts.tokens)

    def _score_free(self, tokens: Tensor) -> None:
        if not len(tokens):
            return
        wanted, found = tokens[:, 1:], self.decode(self.encode(tokens))
        real = wanted != PAD
        length = max(wanted.shape[1], found.shape[1])
        here, there = (F.pad(ids, (0, length - ids.shape[1]), value=PAD) for ids in (found, wanted))
        right = (here == there)[:, : wanted.shape[1]] & real
        exact = (here == there).all(1)
        self._metrics["exact_match"].update(exact.sum(), float(len(tokens)))
        self._metrics["greedy_accuracy"].update(right.sum(), real.sum())
        written, references = ([" ".join(split_words(text)) for text in self._texts(ids)]
                               for ids in (found, wanted))  # fmt: skip
        self._metrics["bleu_tokens"].update(written, references)

    # ---- decoding and using a trained model

    def decode(self, code: Tensor, max_length: int | None = None) -> Tensor:
        """The likeliest next token each time, from codes (B, D): ids (B, T), each row up to EOS."""
        token = torch.full((len(code), 1), BOS, dtype=torch.long, device=code.device)
        state, most = self.decoder.start(code), self._max_length(max_length)
        found = greedy(self, token, state, Given(None), most, forbidden=UNWRITTEN)
        return found.tokens[:, 0]

    def _texts(self, ids: Tensor) -> list[str]:
        if self.processor is not None:
            return self.processor.decode(ids)
        return [" ".join(str(i) for i in row if i not in (PAD, BOS, EOS)) for row in ids.tolist()]

    @torch.inference_mode()
    def reconstruct(
        self, texts: Sequence[str], *, max_length: int | None = None, batch_size: int = 256
    ) -> list[str]:
        """Squeeze texts into codes, and write them again.

        Args:
            texts: as they are written.
            max_length: tokens at the most; half as many again as in training when not given.
            batch_size: texts at a time.

        Raises:
            DataError: the texts are no list, or one is empty.
            MismatchError: the model has no processor to read text with.
        """
        tokens = self._own_processor().encode(texts).tokens

        def write() -> list[str]:
            return [
                text
                for part in tokens.split(batch_size)
                for text in self._texts(self.decode(self.encode(part.to(self.device)), max_length))
            ]

        return self._evaluated(write)

    @torch.inference_mode()
    def interpolate(
        self, one: str, other: str, steps: int = STEPS, *, max_length: int | None = None
    ) -> list[str]:
        """Write texts from codes on the straight line between those of two texts.

        Args:
            one: the text where the line begins.
            other: the text where it ends.
            steps: number of texts, both ends included.
            max_length: tokens at the most; half as many again as in training when not given.

        Raises:
            OptionError: fewer than 2 steps.
            DataError: a text is empty.
            MismatchError: the model has no processor to read text with.
        """
        if steps < 2:
            raise OptionError(f"steps must be at least 2, the two ends, not {steps}.")
        tokens = self._own_processor().encode([one, other]).tokens.to(self.device)
        return self._evaluated(lambda: self._between(tokens, steps, max_length))

    def _between(self, tokens: Tensor, steps: int, max_length: int | None = None) -> list[str]:
        first, last = self.encode(tokens)
        codes = torch.lerp(first, last, torch.linspace(0, 1, steps, device=first.device)[:, None])
        return self._texts(self.decode(codes, max_length))

    def _evaluated(self, write: Callable[[], Found]) -> Found:
        """What a function gives while nothing of training is on."""
        training = self.training
        self.eval()
        try:
            return write()
        finally:
            self.train(training)

    # ---- what the pictures show

    def pictures(self) -> list[Callback]:
        """Reconstructions and interpolations."""
        return [*super().pictures(), Reconstructions()]

    def _keep_shown(self, batch: TextBatch) -> None:
        """Keep the first texts of those that are seen, whatever order they come in."""
        if not self.with_pictures:
            return
        places = range(len(batch.tokens)) if batch.example is None else batch.example.tolist()
        for place, row in zip(places, batch.tokens.tolist(), strict=True):
            self._shown.setdefault(place, [token for token in row if token != PAD])
        self._shown = dict(sorted(self._shown.items())[:SHOWN])

    @torch.no_grad()
    def reconstructions(self) -> list[Reconstruction]:
        """The first validation texts, as they are reconstructed now."""
        if not self._shown:
            return []
        tokens = pad(list(self._shown.values())).to(self.device)
        found = self._evaluated(lambda: self._texts(self.decode(self.encode(tokens))))
        pairs = zip(self._texts(tokens), found, strict=True)
        return [Reconstruction(text, written, text == written) for text, written in pairs]

    @torch.no_grad()
    def interpolations(self) -> list[list[str]]:
        """Between the first and the second of these texts, and the third and the fourth."""
        rows = list(self._shown.values())
        pairs = [pad(rows[at : at + 2]).to(self.device) for at in (0, 2) if len(rows) > at + 1]
        return self._evaluated(lambda: [self._between(pair, STEPS) for pair in pairs])
