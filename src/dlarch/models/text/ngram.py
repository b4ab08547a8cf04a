"""N-grams: a language model that counts what followed the last few tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dlarch.batches import TextBatch
from dlarch.errors import OptionError
from dlarch.nn import KneserNey
from dlarch.registry import register_model
from dlarch.spec import BOS
from dlarch.tasks import Given, LanguageModel
from dlarch.tasks.without_gradients import WithoutGradients, never_used


@register_model("ngram")
class NGram(LanguageModel, WithoutGradients):
    r"""Say which token comes next from how often each followed the last n - 1 tokens.

    What was seen seldom tells little, and what was never seen nothing. Interpolated Kneser-Ney
    smoothing takes a little from each count c, the discount D, and shares it out as a shorter
    context h', without the oldest token, would:

    $$p_k(w | h) = \frac{\max(c_k(h w) - D_k, 0) + D_k N_k(h) \, p_{k-1}(w | h')}{c_k(h)}$$

    $N_k(h)$ is the number of different tokens seen after h. Below the longest n-grams c counts the
    different tokens seen before h w, not how often it was seen: "Francisco" is frequent, but
    follows hardly anything but "San", so a context that was never seen should not expect it.

    One epoch counts all there is; a further one starts anew. The tables are made after 1, 2, 4, ...
    batches, for each validation and at the end, and `train/loss` is that of each batch before it is
    counted: its curve shows what more text is worth.

    R. Kneser and H. Ney (1995), Improved backing-off for m-gram language modeling.

    Shapes: tokens (B, T) -> contexts (B, T, n - 1) -> log-probabilities (B, T, V).

    Differences from the paper: (1) interpolated: the shorter context always has its say, not only
    where the longer one was never seen (Chen and Goodman, 1999); (2) one discount for all orders
    unless one each is given; (3) below the shortest, all tokens are equally likely.

    Expected: test/loss 2.209 nats per letter of first names (no randomness),
    `dlarch fit --config recipes/ngram.yaml`; see docs/models/ngram.md.

    Args:
        vocab_size: number of token ids, V. Taken from the data when not given.
        order: n, tokens of the longest n-grams; the context has n - 1.
        discount: D, from 0 to 1, of all orders or a list with that of each, from 1 to n.
        add: when given, no shorter context is used, and this is added to every count instead:
            $p(w | h) = (c(h w) + a) / (c(h) + a K)$, with K tokens to choose from.
        pictures: write texts at each validation.
    """

    def __init__(
        self,
        vocab_size: int | None = None,
        order: int = 5,
        discount: float | list[float] = 0.8,
        add: float | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(loss=F.cross_entropy, optimizer=never_used, pictures=pictures)
        self.save_hyperparameters()
        self._behind = True  # the tables lack some text
        self.build_if_known()

    def build(self, vocab_size: int) -> None:
        """Make the tables, which are empty at first."""
        options = self.hparams
        self.ngrams = KneserNey(options.order, vocab_size, options.discount, add=options.add)

    def make_room(self, state_dict: dict[str, Any]) -> None:
        """Give the tables the sizes of stored ones."""
        self.ngrams.make_room(state_dict, "ngrams.")

    # ---- counting

    def setup(self, stage: str) -> None:
        """Refuse to count a share of the text only.

        Raises:
            OptionError: several processes are to learn.
        """
        super().setup(stage)
        if stage == "fit" and self.trainer.world_size > 1:
            raise OptionError("ngram counts in one process: set --trainer.devices 1.")

    def training_step(self, batch: Sequence[Any], index: int) -> Tensor:
        """Score a batch, then count it."""
        if index == 0:
            self.ngrams.forget()
        text = TextBatch(*batch)
        before = self._begun_in(text, self._standing())[:, 0]
        with torch.no_grad():
            loss = super().training_step(batch, index)
        # The first token of a window was the last one of the window before, or is a start.
        self.ngrams.update(torch.cat((before, text.tokens), dim=1), context=self.hparams.order)
        self._behind = True
        if index & (index + 1) == 0:
            self._make_tables()
        return loss

    def _make_tables(self) -> None:
        if self._behind:
            self.ngrams.finish(keep=True)
            self._behind = False

    def on_validation_start(self) -> None:
        """Count all text so far, if this is part of a fit."""
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            self._make_tables()

    def on_train_epoch_end(self) -> None:
        """Count all text."""
        self._make_tables()

    # ---- predicting

    def start(self, count: int) -> Tensor:
        """Contexts (B, 1, n - 1) of start tokens: nothing came before."""
        shape = (count, 1, self.hparams.order - 1)
        return torch.full(shape, BOS, device=self.ngrams.predictable.device)

    def read(self, tokens: Tensor, state: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        """Contexts (B, T, n - 1) that end with each of the tokens (B, T)."""
        size = self.hparams.order - 1
        stream = torch.cat((state[:, 0], tokens), dim=1)
        contexts = stream.unfold(1, size, 1)[:, 1:] if size else tokens[..., None][..., :0]
        return contexts, contexts[:, -1:]

    def advance(self, token: Tensor, state: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        """Contexts (B, K, n - 1) after one more token of each hypothesis."""
        context = torch.cat((state, token[..., None]), dim=-1)[..., 1:]
        return context, context

    def project(self, features: Tensor) -> Tensor:
        """Contexts (..., n - 1) to log-probabilities (..., V); -inf where padding or a start is."""
        found = self.ngrams.log_probability(features.flatten(0, -2))
        return found.view(*features.shape[:-1], -1)
