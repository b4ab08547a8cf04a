"""The translation task: one sequence in, another out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence
from torchmetrics import Metric

from dlarch.batches import TranslationBatch
from dlarch.callbacks.attention import AttentionMaps
from dlarch.callbacks.protocols import TranslationSample
from dlarch.callbacks.tokens import TokenProjector
from dlarch.callbacks.translations import TranslationTable
from dlarch.errors import DataError
from dlarch.processing.words import split_words
from dlarch.spec import BOS, EOS, PAD, UNK, DataSpec
from dlarch.tasks.base import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
)
from dlarch.tasks.losses import check_loss
from dlarch.tasks.metrics import CorpusBleu, Ratio, edit_distance
from dlarch.tasks.teacher_forcing import TeacherForcing, sampled_features
from dlarch.tasks.translator import Translator

DECODED_IN_VALIDATION = 1000
"""Validation examples, from the first on, that are translated freely at each validation."""


class TranslationOutput(NamedTuple):
    """Logits (B, T, V) of the next target tokens; attention (B, T, S), or None."""

    logits: Tensor
    attention: Tensor | None


class Translation(Translator):
    """Translate sentences: teacher-forced loss per real token, greedy or beam decoding.

    Args:
        loss: called with logits (n, V) and targets (n,) of real tokens; a mean over them.
        optimizer: called with the parameters.
        scheduler: called with the optimizer.
        pictures: draw attention and translations at each validation.
        initializer: of the weights; torch's own when not given.
        teacher_forcing: share of training steps that are fed the reference.
    """

    batch_type = TranslationBatch
    monitor = ("val/loss", "min")
    headline = "test/bleu"

    def __init__(
        self,
        loss: LossCallable,
        optimizer: OptimizerCallable,
        scheduler: SchedulerCallable | None = None,
        pictures: bool = True,
        initializer: InitializerCallable | None = None,
        teacher_forcing: TeacherForcing = TeacherForcing(),  # noqa: B008
    ) -> None:
        super().__init__(
            optimizer=optimizer, scheduler=scheduler, pictures=pictures, initializer=initializer
        )
        self.loss = loss
        self.teacher_forcing = teacher_forcing.checked()
        self._fixed: list[TranslationBatch] = []
        self._decoded_with: Mapping[str, Any] = {}

    @classmethod
    def example(cls, size: int, seed: int) -> tuple[DataSpec, TranslationBatch]:
        """A tiny spec and a batch of random pairs of mixed lengths."""
        spec = DataSpec(source_vocab_size=11, target_vocab_size=13)
        generator = torch.Generator().manual_seed(seed)

        def sentence(vocab_size: int, begin: list[int]) -> Tensor:
            length = int(torch.randint(1, 7, (1,), generator=generator))
            words = torch.randint(EOS + 1, vocab_size, (length,), generator=generator)
            return torch.cat((torch.tensor(begin, dtype=torch.long), words, torch.tensor([EOS])))

        source = [sentence(11, []) for _ in range(size)]
        target = [sentence(13, [BOS]) for _ in range(size)]
        return spec, TranslationBatch(
            pad_sequence(source, batch_first=True),
            pad_sequence(target, batch_first=True),
            example=torch.arange(size),
        )

    # ---- training

    def setup(self, stage: str) -> None:
        """Let tables show exact match of what is spelt: BLEU counts runs of four words."""
        super().setup(stage)
        if self.processor is not None and self.processor.target.level == "characters":
            self.headline = "test/exact_match"

    def training_step(self, batch: Sequence[Any], _: int) -> Tensor:
        """Mean loss of the batch's real tokens."""
        pairs = TranslationBatch(*batch)
        logits, targets = self._predict(pairs, self.teacher_forcing.share(self.trainer.global_step))
        return self.mean_loss(self.loss(logits, targets) * len(targets), len(targets))

    def _predict(self, pairs: TranslationBatch, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """Logits (n, V) and targets (n,) of the batch's n real tokens."""
        memory, fed = self.encode(pairs.source), pairs.target[:, :-1]
        if share < 1.0:
            features = sampled_features(self, fed, memory, share)
        else:
            features = self.decode(fed, memory).features
        real = pairs.target_mask[:, 1:]
        return self.project(features[real]), pairs.target[:, 1:][real]

    def on_fit_start(self) -> None:
        """Try the loss that was asked for, and see that the longest pairs fit.

        Raises:
            OptionError: the loss is no mean over logits (n, V) and targets (n,).
            DataError: a pair is longer than the model's positions.
        """
        super().on_fit_start()
        self._check_lengths()
        logits = torch.randn((3, 5), generator=torch.Generator().manual_seed(0))
        check_loss(self.loss, logits, torch.tensor([4, 1, 2]))

    def _check_lengths(self) -> None:
        data: Any = getattr(self.trainer, "datamodule", None)
        if self.longest is None or not hasattr(data, "longest_pair"):
            return
        for split in ("train", "validation", "test"):
            needed = data.longest_pair(split)
            if needed > self.longest:
                shorter = f", or --data.max_length {self.longest - 1}" if split == "train" else ""
                raise DataError(
                    f"The longest pair of split {split} takes {needed} positions, but the model "
                    f"has {self.longest}: give --model.positions {needed}{shorter}."
                )

    # ---- validation and test

    def metrics(self, stage: str) -> dict[str, Metric]:
        """Teacher-forced loss, perplexity and accuracy; the others are of free decoding."""
        found: dict[str, Metric] = {
            "loss": Ratio(),
            "perplexity": Ratio(exponential=True),
            "token_accuracy": Ratio(),
            "exact_match": Ratio(),
            "bleu": CorpusBleu(),
            "bleu_tokens": CorpusBleu(tokenize="none", lowercase=True),
        }
        # It takes a loop over characters: once is enough.
        return found | ({"edit_distance": Ratio()} if stage == "test" else {})

    def validation_step(self, batch: Sequence[Any], _: int) -> None:
        """Score a batch; translate those of its examples that are among the first 1,000."""
        pairs = TranslationBatch(*batch)
        self._score_forced(pairs)
        self._keep_fixed(pairs)
        if pairs.example is not None:
            pairs = _rows(pairs, (pairs.example < DECODED_IN_VALIDATION).nonzero()[:, 0])
        self._score_free(pairs)

    def test_step(self, batch: Sequence[Any], batch_index: int) -> None:  # noqa: ARG002
        """Score and translate a batch."""
        pairs = TranslationBatch(*batch)
        self._score_forced(pairs)
        self._score_free(pairs)
        self._keep_fixed(pairs)

    def _score_forced(self, pairs: TranslationBatch) -> None:
        logits, targets = self._predict(pairs)
        total = F.cross_entropy(logits.float(), targets, reduction="sum")
        count = float(len(targets))
        self._metrics["loss"].update(total, count)
        self._metrics["perplexity"].update(total, count)
        self._metrics["token_accuracy"].update((logits.argmax(-1) == targets).sum(), count)

    def _score_free(self, pairs: TranslationBatch) -> None:
        if not len(pairs.source):
            return
        found = self.search(pairs.source, **self._decoded_with).tokens[:, 0]
        wanted = pairs.target[:, 1:]
        translations = self._texts(found)
        references = pairs.target_text or self._texts(wanted)
        # An unknown word is left out of a text, and must not match the lack of one.
        known = (wanted != UNK).all(1).tolist()
        plain = self._plain(references)
        pairs_of_texts = zip(known, translations, plain, strict=True)
        exact = [known and text == reference for known, text, reference in pairs_of_texts]
        self._metrics["exact_match"].update(float(sum(exact)), float(len(exact)))
        if "edit_distance" in self._metrics:
            edits = sum(map(edit_distance, translations, plain))
            self._metrics["edit_distance"].update(float(edits), float(len(exact)))
        self._metrics["bleu"].update(translations, references)
        self._metrics["bleu_tokens"].update(
            [" ".join(split_words(text)) for text in translations],
            [" ".join(split_words(text)) for text in references],
        )

    def _texts(self, ids: Tensor) -> list[str]:
        if self.processor is not None:
            return self.processor.decode(ids)
        return [" ".join(str(int(i)) for i in row if i not in (PAD, BOS, EOS)) for row in ids]

    def _plain(self, references: list[str]) -> list[str]:
        """References as this vocabulary can write them: in its case, with its spacing."""
        if self.processor is None:
            return references
        return [self.processor.target.normalize(text) for text in references]

    def predict_step(self, batch: Sequence[Any], _: int) -> list[str]:
        """Translations of a batch."""
        source = TranslationBatch(*batch).source
        return self._texts(self.search(source, **self.decoding).tokens[:, 0])

    # ---- what the pictures show

    def pictures(self) -> list[Callback]:
        """Attention maps, a table of translations, and what it has made of the tokens."""
        return [TranslationTable(), AttentionMaps(), TokenProjector()]

    def vocabularies(self) -> dict[str, Sequence[str]]:
        """The tokens of both languages, when they are known."""
        sides = () if self.processor is None else ("source", "target")
        return {side: getattr(self.processor, side).readable() for side in sides}

    def on_validation_epoch_start(self) -> None:
        """Start the epoch's metrics and the fixed examples."""
        super().on_validation_epoch_start()
        self._fixed, self._decoded_with = [], {}

    def on_test_epoch_start(self) -> None:
        """Start the epoch's metrics and the fixed examples."""
        super().on_test_epoch_start()
        self._fixed, self._decoded_with = [], self.decoding

    def _keep_fixed(self, pairs: TranslationBatch, count: int = 16) -> None:
        """Keep the first examples of those that are seen, whatever order they come in."""
        if pairs.example is None:
            if not self._fixed:
                self._fixed = [_rows(pairs, torch.arange(min(count, len(pairs.source))))]
            return
        kept = [(part.example, part) for part in (*self._fixed, pairs) if part.example is not None]
        last = torch.cat([example for example, _ in kept]).sort().values[:count][-1]
        if bool(pairs.example.min() > last):
            return
        self._fixed = [
            _rows(part, (example <= last).nonzero()[:, 0])
            for example, part in kept
            if bool((example <= last).any())
        ]

    @torch.no_grad()
    def translation_samples(self, count: int) -> list[TranslationSample]:
        """The first examples of the split seen last, as they are translated now."""
        training = self.training
        self.eval()
        try:
            return self._translated_samples()[:count]
        finally:
            self.train(training)

    def _translated_samples(self) -> list[TranslationSample]:
        samples: list[tuple[int, TranslationSample]] = []
        for pairs in self._fixed:
            # After a test the Trainer has taken the model back to the CPU.
            source_ids = pairs.source.to(self.device)
            found = self.search(source_ids, **self._decoded_with).tokens[:, 0]
            fed = F.pad(found[:, :-1], (1, 0), value=BOS)
            maps = self.attention_maps(source_ids, fed)
            texts, ids = self._texts(found), found.cpu()
            for row, translation in enumerate(texts):
                length = int((ids[row] != PAD).sum())
                source = pairs.source[row][pairs.source_mask[row]].cpu()
                attention = None
                if maps is not None:
                    attention = maps[row, ..., :length, : len(source)].float().cpu()
                reference = (pairs.target_text or self._texts(pairs.target))[row]
                samples.append(
                    (
                        row if pairs.example is None else int(pairs.example[row]),
                        TranslationSample(
                            source=(pairs.source_text or self._source_texts(pairs.source))[row],
                            reference=reference,
                            translation=translation,
                            exact=translation == self._plain([reference])[0],
                            source_tokens=self._written(source, "source"),
                            target_tokens=self._written(ids[row, :length], "target"),
                            attention=attention,
                        ),
                    )
                )
        return [sample for _, sample in sorted(samples, key=lambda pair: pair[0])]

    def _source_texts(self, ids: Tensor) -> list[str]:
        if self.processor is None:
            return self._texts(ids)
        return [self.processor.source.decode(row.tolist()) for row in ids]

    def _written(self, ids: Tensor, side: str) -> list[str]:
        if self.processor is None:
            return [str(int(i)) for i in ids]
        return [getattr(self.processor, side).as_text(int(i)) for i in ids]


def _rows(pairs: TranslationBatch, rows: Tensor) -> TranslationBatch:
    """Some examples of a batch."""
    picked = rows.tolist()

    def take(texts: list[str] | None) -> list[str] | None:
        return None if texts is None else [texts[row] for row in picked]

    return TranslationBatch(
        source=pairs.source[rows],
        target=pairs.target[rows],
        example=None if pairs.example is None else pairs.example[rows],
        source_text=take(pairs.source_text),
        target_text=take(pairs.target_text),
    )
