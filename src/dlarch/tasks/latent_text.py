"""The task of texts with a latent code: a prior, a posterior, and a bound on the likelihood."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics import Metric

from dlarch.batches import TextBatch
from dlarch.callbacks.samples import WrittenText, WrittenTexts
from dlarch.nn import free_bits, importance_nll
from dlarch.spec import PAD
from dlarch.tasks.annealing import Annealing
from dlarch.tasks.base import (
    InitializerCallable,
    OptimizerCallable,
    SchedulerCallable,
)
from dlarch.tasks.latent import Bound, Posterior, noise_of
from dlarch.tasks.metrics import ActiveUnits, Ratio
from dlarch.tasks.text_autoencoder import TextAutoencoder

IMPORTANCE_SAMPLES = 100
"""Codes that are drawn for each text of the test."""

TOKENS_AT_ONCE = 2048
"""Tokens that are scored at a time with codes of their own."""


class LatentText(TextAutoencoder):
    """Texts whose codes have a standard normal prior, by the evidence lower bound.

    All is in nats per text. Validation and test draw the code of each text from numbers that belong
    to its place in the split, so that nothing depends on how texts are batched.

    Args:
        annealing: how the weight of the divergence rises in training.
        free_nats: of each dimension, that cost nothing more in training.
        optimizer: called with the parameters.
        scheduler: called with the optimizer.
        initializer: of the weights; torch's own when not given.
        pictures: write texts at each validation.
    """

    headline = f"test/nll_is{IMPORTANCE_SAMPLES}"
    writes_alone = True

    def __init__(
        self,
        annealing: Annealing,
        free_nats: float,
        optimizer: OptimizerCallable,
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer, scheduler=scheduler, pictures=pictures, initializer=initializer
        )
        self.annealing = annealing.checked()
        self.free_nats = free_nats

    # ---- what a model defines

    @abstractmethod
    def posterior(self, tokens: Tensor) -> Posterior:
        """What is thought of the codes of texts (B, T)."""

    @abstractmethod
    def bound(self, tokens: Tensor, noise: Tensor) -> Bound:
        """The terms of the bound of texts (B, T), with codes from standard normal noise (B, D)."""

    def encode(self, tokens: Tensor) -> Tensor:
        """The mean codes (B, D) of texts (B, T)."""
        return self.posterior(tokens).mean

    @property
    def code_size(self) -> int:
        """Dimensions of the code, D."""
        return int(self.hparams.code_size)

    # ---- training

    def training_step(self, batch: Sequence[Any], _: int) -> Tensor:
        """Mean over the texts of reconstruction and weighted divergence, less its free part."""
        tokens = TextBatch(*batch).tokens
        count = len(tokens)
        noise = torch.randn(count, self.code_size, device=tokens.device)
        bound = self.bound(tokens, noise)
        weight = self.annealing.weight(self.trainer.global_step)
        divergence = count * free_bits(bound.kl, self.free_nats)
        return self.mean_loss(bound.reconstruction.sum() + weight * divergence, count)

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Log the weight of the divergence beside the loss."""
        due = self._log_is_due()
        super().on_train_batch_end(*arguments)
        if due:
            # That of the step which has just been taken.
            weight = self.annealing.weight(self.trainer.global_step - 1)
            for logger in self.loggers:
                logger.log_metrics({"train/kl_weight": weight}, step=self.trainer.global_step)

    # ---- validation and test

    def metrics(self, stage: str) -> dict[str, Metric]:
        """The bound and its terms; in the test the likelihood by importance sampling too."""
        free = super().metrics(stage)
        found: dict[str, Metric] = {
            "loss": free.pop("loss"),
            "reconstruction": Ratio(),
            "kl": Ratio(),
            "active_units": ActiveUnits(int(self.hparams.code_size)),
            "perplexity_bound": Ratio(exponential=True),
        }
        if stage == "test":
            found[f"nll_is{IMPORTANCE_SAMPLES}"] = Ratio()
            found[f"perplexity_is{IMPORTANCE_SAMPLES}"] = Ratio(exponential=True)
        return found | free

    def score(self, batch: TextBatch) -> None:
        """Score a batch by the bound, and in the test by importance sampling."""
        tokens = batch.tokens
        count, words = float(len(tokens)), (tokens[:, 1:] != PAD).sum()
        noise = self._noise(batch, 1 + IMPORTANCE_SAMPLES)
        reconstruction, kl, posterior = self.bound(tokens, noise[:, 0])
        loss = reconstruction.sum() + kl.sum()
        self._metrics["loss"].update(loss, count)
        self._metrics["reconstruction"].update(reconstruction.sum(), count)
        self._metrics["kl"].update(kl.sum(), count)
        self._metrics["perplexity_bound"].update(loss, words)
        self._metrics["active_units"].update(posterior.mean)
        name = f"nll_is{IMPORTANCE_SAMPLES}"
        if name in self._metrics:
            nll = self.importance_nll(tokens, posterior, noise[:, 1:]).sum()
            self._metrics[name].update(nll, count)
            self._metrics[f"perplexity_is{IMPORTANCE_SAMPLES}"].update(nll, words)

    def importance_nll(self, tokens: Tensor, posterior: Posterior, noise: Tensor) -> Tensor:
        """Estimates (B,) of -log p(text) by K codes of each, from standard normal (B, K, D)."""
        mean, log_variance = posterior
        code = Posterior(mean[:, None], log_variance[:, None]).code(noise)
        at_once = max(1, TOKENS_AT_ONCE // tokens.numel())
        parts = []
        for part in code.split(at_once, dim=1):
            repeated = tokens.repeat_interleave(part.shape[1], dim=0)
            nats = self.nats(repeated, part.flatten(0, 1))
            parts.append(nats.unflatten(0, part.shape[:2]))
        return importance_nll(-torch.cat(parts, dim=1), code, mean, log_variance)

    def _noise(self, batch: TextBatch, count: int) -> Tensor:
        """Numbers (B, count, D) that depend on the places of the texts alone."""
        size, device = len(batch.tokens), batch.tokens.device
        places = range(size) if batch.example is None else batch.example.tolist()
        return noise_of(places, count, self.code_size).to(device)

    # ---- writing from the prior

    def begin(self, count: int, generator: torch.Generator | None) -> Any:
        """The state before the first token of `count` texts, whose codes are drawn."""
        shape = (count, self.code_size)
        return self.decoder.start(torch.randn(shape, generator=generator, device=self.device))

    def pictures(self) -> list[Callback]:
        """Reconstructions, interpolations, and texts from drawn codes."""
        return [*super().pictures(), WrittenTexts()]

    def written_texts(self, count: int) -> list[WrittenText]:
        """Texts from codes of a fixed seed."""
        if self.processor is None:
            return []
        return [WrittenText(text) for text in self.generate(count, seed=0)]
