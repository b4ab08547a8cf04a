"""Writing texts with a trained model: sampling and beam search, from a beginning or none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from dlarch.callbacks.tokens import TokenProjector
from dlarch.decoding import StepOutput, beam_search, sample, sample_stream
from dlarch.errors import DataError, MismatchError, OptionError
from dlarch.processing import LabelledTextProcessor
from dlarch.spec import BOS, PAD, UNK
from dlarch.tasks.base import Task

MAX_LENGTH = 200
"""Longest text when the processor knows no longest training text."""


UNWRITTEN = (PAD, UNK, BOS)
"""Ids that no text is written with."""


class Given(NamedTuple):
    """What stays while a text is written.

    Attributes:
        condition: (B,) class of each text, or None.
    """

    condition: Tensor | None


class Writer(Task):
    """Writes texts one token at a time.

    A model offers `start`, `read`, `advance` and `project`: `read` takes known tokens in one go,
    `advance` one token for each hypothesis; both go on to logits by `project`.
    """

    processor: LabelledTextProcessor | None
    context: int | None = None
    """Most tokens that the model can look back on; no limit when None."""

    writes_alone: ClassVar[bool] = True
    """Whether texts can be written without one that is given."""

    # ---- what a model defines

    @abstractmethod
    def start(self, count: int) -> Any:
        """The state before the first token of `count` texts: tensors that lead with (B, 1)."""

    def begin(self, count: int, generator: torch.Generator | None) -> Any:  # noqa: ARG002
        """The state before the first token of `count` new texts, of which something is drawn."""
        return self.start(count)

    @abstractmethod
    def read(self, tokens: Tensor, state: Any, given: Given) -> tuple[Tensor, Any]:
        """Features (B, T, F) after each of the tokens (B, T), and the state after the last."""

    @abstractmethod
    def advance(self, token: Tensor, state: Any, given: Given) -> tuple[Tensor, Any]:
        """Features (B, K, F) after one token per hypothesis (B, K), and the state."""

    @abstractmethod
    def project(self, features: Tensor) -> Tensor:
        """Features (..., F) to logits (..., V)."""

    def step(self, token: Tensor, state: Any, memory: Given) -> StepOutput:
        """Read one token per hypothesis, (B, K), and predict the next."""
        features, state = self.advance(token, state, memory)
        return StepOutput(self.project(features), state)

    # ---- conditions

    @property
    def num_conditions(self) -> int:
        """Number of classes that a text may be asked to be of; 0 without."""
        return int(self.hparams.get("num_conditions") or 0)

    def _given(self, condition: Tensor | None) -> Given:
        if not self.num_conditions:
            return Given(None)
        if condition is None:
            raise MismatchError(
                f"The model writes texts of {self.num_conditions} classes: give the class of each."
            )
        return Given(condition)

    def condition_names(self) -> list[str]:
        """Names of the classes in the order of their labels; none without."""
        names = getattr(self.processor, "class_names", None)
        return names or [str(label) for label in range(self.num_conditions)]

    # ---- writing

    @torch.inference_mode()
    def generate(
        self,
        n: int = 1,
        *,
        prompt: str = "",
        condition: str | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        beam: int | None = None,
        max_length: int | None = None,
        batch_size: int = 1000,
        seed: int | None = None,
    ) -> list[str]:
        """Write texts.

        Args:
            n: number of texts; with a beam the `n` best.
            prompt: how each begins.
            condition: name of the class that they are of; drawn for each when not given.
            temperature: divides the log-probabilities; 1 is the model's distribution, 0 takes the
                likeliest token each time.
            top_k: draw among the k most probable tokens.
            top_p: draw among the fewest tokens that hold this share of the probability.
            beam: hypotheses of a search for the likeliest texts, instead of drawing.
            max_length: tokens at the most; half as many again as in training when not given.
            batch_size: texts written at a time.
            seed: of the draws.

        Returns:
            `n` texts, each with its prompt; in the order drawn, or best first.

        Raises:
            OptionError: an option outside its range, or there is no such class.
            DataError: a sign of the prompt is not in the vocabulary.
            MismatchError: the model has no processor to write text with.
        """
        for name, value in {"n": n, "batch_size": batch_size, "beam": beam or 1}.items():
            if not isinstance(value, int) or value < 1:
                raise OptionError(f"{name} must be a whole number from 1 up, not {value}.")
        if beam is not None and (temperature != 1.0 or top_k is not None or top_p is not None):
            raise OptionError("Either draw (temperature, top_k, top_p) or search (beam), not both.")
        begun = self._begun(prompt)
        labels = self._labels(n if beam is None else 1, condition, seed)
        most = self._max_length(max_length)
        generator = None
        if seed is not None:
            generator = torch.Generator(self.device).manual_seed(seed)
        training = self.training
        self.eval()
        texts: list[str] = []
        try:
            for part in labels.split(batch_size):
                given = Given(part.to(self.device) if self.num_conditions else None)
                tokens = begun.to(self.device).expand(len(part), -1)
                state = self.begin(len(part), generator)
                if begun.shape[1] > 1:
                    _, state = self.read(tokens[:, :-1], state, given)
                options: dict[str, Any] = {"max_length": most, "forbidden": UNWRITTEN}
                if beam is None:
                    found = sample(
                        self, tokens[:, -1:], state, given, temperature=temperature, top_k=top_k,
                        top_p=1.0 if top_p is None else top_p, generator=generator, **options,
                    )  # fmt: skip
                else:
                    found = beam_search(
                        self, tokens[:, -1:], state, given, beam_size=max(beam, n), n_best=n,
                        **options,
                    )  # fmt: skip
                texts += self._own_processor().decode(found.tokens.flatten(0, 1).cpu())
        finally:
            self.train(training)
        return [self._after(prompt, text) for text in texts]

    @torch.inference_mode()
    def stream(
        self,
        *,
        prompt: str = "",
        condition: str | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        max_length: int | None = None,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Write one text, a token at a time; the arguments and errors are those of `generate`."""
        begun = self._begun(prompt).to(self.device)
        label = self._labels(1, condition, seed).to(self.device)
        given = Given(label if self.num_conditions else None)
        generator = None
        if seed is not None:
            generator = torch.Generator(self.device).manual_seed(seed)
        training = self.training
        self.eval()
        try:
            state = self.begin(1, generator)
            if begun.shape[1] > 1:
                _, state = self.read(begun[:, :-1], state, given)
            steps = sample_stream(
                self, begun[:, -1:], state, given, self._max_length(max_length),
                temperature=temperature, top_k=top_k, top_p=1.0 if top_p is None else top_p,
                generator=generator, forbidden=UNWRITTEN,
            )  # fmt: skip
            written = self._after(prompt, "")
            yield written
            ids: list[int] = []
            for token in steps:
                ids.append(token)
                # Some tokens are but a part of a character.
                text = self._after(prompt, self._own_processor().tokens.decode(ids))
                yield text[len(written) :]
                written = text
        finally:
            self.train(training)

    def _begun(self, prompt: str) -> Tensor:
        """BOS and the ids of a prompt, (1, T)."""
        vocabulary = self._own_processor().tokens
        ids = vocabulary.encode(prompt) if prompt else []
        if UNK in ids:
            unknown = vocabulary.tokens(prompt)[ids.index(UNK)]
            raise DataError(
                f"The model has never seen {unknown!r} of the prompt {prompt!r}: leave it out."
            )
        begun = [BOS, *ids]
        return torch.tensor([begun if self.context is None else begun[-self.context :]])

    def _after(self, prompt: str, text: str) -> str:
        """A text behind its prompt; words with a space between."""
        vocabulary = self._own_processor().tokens
        if prompt and vocabulary.level == "words":
            return vocabulary.normalize(f"{prompt} {text}")
        return prompt + text

    def _labels(self, count: int, condition: str | None, seed: int | None) -> Tensor:
        names = self.condition_names()
        if condition is None:
            generator = None if seed is None else torch.Generator().manual_seed(seed)
            return torch.randint(0, max(len(names), 1), (count,), generator=generator)
        if not self.num_conditions:
            raise OptionError("The model knows no classes: leave out the condition.")
        return torch.full((count,), self._own_processor().label(condition))

    def _max_length(self, asked: int | None) -> int:
        known = getattr(self.processor, "longest", None)
        return asked or (MAX_LENGTH if known is None else known + known // 2)

    # ---- what the pictures show

    def pictures(self) -> list[Callback]:
        """What it has made of the tokens."""
        return [TokenProjector()]

    def vocabularies(self) -> dict[str, Sequence[str]]:
        """The tokens, when they are known."""
        return {} if self.processor is None else {"": self.processor.tokens.readable()}

    def _own_processor(self) -> LabelledTextProcessor:
        if self.processor is None:
            raise MismatchError(
                "This model has no processor to write text with: train it on a dlarch data module, "
                "or set model.processor."
            )
        return self.processor
