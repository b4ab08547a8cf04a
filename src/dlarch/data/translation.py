"""Sentence pairs: generated, from files, or from the Hub."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlarch.batches import TranslationBatch
from dlarch.data.arrays import TextArray, TextWriter, TokenArray, TokenWriter
from dlarch.data.bucketed import BucketedData
from dlarch.data.cache import FINGERPRINT, cache_key, cached
from dlarch.data.pairs import (
    GENERATORS,
    GeneratedPairs,
    PairSource,
    default_languages,
    open_pairs,
)
from dlarch.data.splits import SPLITS
from dlarch.errors import DataError, MismatchError, OptionError, check_at_least_1
from dlarch.processing import Processor, TextProcessor, TranslationProcessor
from dlarch.registry import register_data
from dlarch.spec import BOS, EOS, DataSpec

logger = logging.getLogger(__name__)

LAYOUT = 2
"""Version of the cache's files."""

CHUNK = 1000
"""Pairs that are encoded at a time."""


@register_data("translation")
class TranslationData(BucketedData):
    """Sentence pairs, as characters, words or byte pairs, in batches of similar length.

    Sources: `dates` (as people write and say them, in two languages), `date_formats` (in a form
    that is asked for), `number_words`, `addition`, `copy`, `reverse`, all generated from a seed
    with held-out values; a .tsv, .csv or .jsonl file; a Hub id or a folder in Hub layout with one
    column per language. A source without official splits is divided 90/5/5 by a hash of the source
    side.

    Args:
        source: where the pairs come from; see above.
        source_language: language code, and name of the column, of the side that is read; when not
            given fr, a model's own, or the column of a Hub data set that is not en.
        target_language: the same of the side that is written, en when not given; swapping both
            reverses the direction.
        columns: names of the columns of a file, in their order, when it has no header.
        tokens: what a token is; characters for generated pairs, words for others when not given.
        lowercase: lower-case both sides; True for words, else False, when not given.
        min_frequency: rarer tokens become unknown; 2 for words, else 1, when not given.
        max_vocab_size: most ids per side; no limit (8,000 for bpe) when not given.
        share_vocabulary: one vocabulary for both sides.
        source_tokenizer: a tokenizer.json to use for the sources instead of training one.
        target_tokenizer: the same for the targets.
        max_length: longer pairs (tokens of either side) are left out of training.
        train_size: number of generated training pairs, or first pairs of a file to train on; all,
            or the generator's default, when not given.
        digits: of the operands of `addition`; 3 when not given.
        generator_seed: of the generated pairs; another one makes another data set.
        test_all: score all pairs of a source without official splits; for a model that was trained
            on others.
        batch_size: sentences per batch and process.
        batch_tokens: sentences times longest side per batch instead, padding included.
        num_workers: processes that make batches.
        pin_memory: page-locked batches; when not given, if there is a CUDA device.
        processor: of a trained model, to read new pairs as it did its own.
    """

    batch_type = TranslationBatch
    processor_options = (
        "tokens", "lowercase", "min_frequency", "max_vocab_size", "share_vocabulary",
    )  # fmt: skip
    processor: TranslationProcessor | None

    def __init__(
        self,
        source: str = "dates",
        source_language: str | None = None,
        target_language: str | None = None,
        columns: list[str] | None = None,
        tokens: Literal["characters", "words", "bpe"] | None = None,
        lowercase: bool | None = None,
        min_frequency: int | None = None,
        max_vocab_size: int | None = None,
        share_vocabulary: bool = False,
        source_tokenizer: str | None = None,
        target_tokenizer: str | None = None,
        max_length: int | None = None,
        train_size: int | None = None,
        digits: int | None = None,
        generator_seed: int = 0,
        test_all: bool = False,
        batch_size: int = 128,
        batch_tokens: int | None = None,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        processor: Processor | None = None,
    ) -> None:
        super().__init__(batch_size, batch_tokens, num_workers, pin_memory, processor)
        check_at_least_1(
            min_frequency=min_frequency,
            max_vocab_size=max_vocab_size,
            max_length=max_length,
            train_size=train_size,
            digits=digits,
        )
        self.source = source
        self.source_language = source_language
        self.target_language = target_language
        self.languages = ("", "")  # known when the source is opened
        self.columns = columns
        words = tokens == "words" or (tokens is None and source not in GENERATORS)
        self.tokens = tokens or ("words" if words else "characters")
        self.lowercase = words if lowercase is None else lowercase
        self.min_frequency = min_frequency or (2 if words else 1)
        self.max_vocab_size = max_vocab_size
        self.share_vocabulary = share_vocabulary
        self.tokenizers = (source_tokenizer, target_tokenizer)
        if all(self.tokenizers) and (tokens is not None or lowercase is not None):
            raise OptionError(
                "source_tokenizer and target_tokenizer say what a token is: leave out tokens and "
                "lowercase."
            )
        self.max_length = max_length
        self.train_size = train_size
        self.digits = digits
        self.generator_seed = generator_seed
        self.test_all = test_all
        self._datasets: dict[str, PairDataset] = {}

    # ---- making and opening the cache

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Open the cache."""
        folder = self._cache_folder()
        given, first = self._given_processor(), self.spec is None
        if given is None:
            self.processor = self._own = TranslationProcessor.load(folder)
        assert self.processor is not None
        self._datasets = {split: PairDataset(folder, split) for split in SPLITS}
        self.spec = DataSpec(
            source_vocab_size=self.processor.source.vocab_size,
            target_vocab_size=self.processor.target.vocab_size,
            fingerprint=(folder / FINGERPRINT).read_text(encoding="utf-8"),
        )
        if given is not None and first:
            self._report_unknown()

    def _cached(self) -> Path:
        self._settle_languages()
        self._check_processor()
        given = self._given_processor()
        pairs = open_pairs(
            self.source,
            *self.languages,
            columns=self.columns,
            train_size=self.train_size,
            digits=self.digits,
            seed=self.generator_seed,
            undivided=self.test_all,
        )
        if self.test_all and self.trainer is not None and self.trainer.state.fn == "fit":
            raise OptionError("With test_all the test pairs are the training pairs: it is no fit.")
        settings = {
            "layout": LAYOUT,
            "content": pairs.content,
            "libraries": [version("Babel"), version("num2words")]
            if isinstance(pairs, GeneratedPairs)
            else None,
            "processor": None if given is None else given.hash(),
            "tokens": [
                self.tokens,
                self.lowercase,
                self.min_frequency,
                self.max_vocab_size,
                self.share_vocabulary,
                [_file_text(path) for path in self.tokenizers],
            ],
            "max_length": self.max_length,
        }
        return cached("translation", cache_key(settings), lambda folder: self._build(folder, pairs))

    def _settle_languages(self) -> None:
        """The languages asked for, else the model's, else the source's own."""
        given = self._given_processor()
        asked = (self.source_language, self.target_language)
        if None not in asked:
            usual: tuple[str, str] = ("", "")
        elif isinstance(given, TranslationProcessor):
            usual = (given.source_language, given.target_language)
        else:
            usual = default_languages(self.source)
        self.languages = (asked[0] or usual[0], asked[1] or usual[1])
        if self.languages[0] == self.languages[1]:
            raise OptionError(
                f"Source and target language are both {self.languages[0]!r}: give source_language "
                "and target_language."
            )

    def _check_processor(self) -> None:
        given = self._given_processor()
        if given is None:
            return
        if any(self.tokenizers):
            raise MismatchError(
                "The model brings its own vocabulary; leave out source_tokenizer and "
                "target_tokenizer, or train a new model with them."
            )
        if not isinstance(given, TranslationProcessor):
            raise MismatchError(
                f"The model's processor is for {given.type} data, not for translation."
            )
        mine = self.languages
        theirs = (given.source_language, given.target_language)
        if mine != theirs:
            raise MismatchError(
                f"The model translates {theirs[0]} to {theirs[1]}, the data are {mine[0]} to "
                f"{mine[1]}: give --data.source_language {theirs[0]} --data.target_language "
                f"{theirs[1]} (for a file without a header, name its columns with --data.columns)."
            )

    def _build(self, folder: Path, pairs: PairSource) -> None:
        given = self._given_processor()
        processor = given or self._train_processor(pairs)
        training = _write_split(folder, "train", pairs, processor, self.max_length)
        for split in ("validation", "test"):
            _write_split(folder, split, pairs, processor, None)
        if given is None:
            processor.max_target_length = training.longest_target + training.longest_target // 2
        processor.save(folder)
        (folder / FINGERPRINT).write_text(training.fingerprint, encoding="utf-8")

    def _train_processor(self, pairs: PairSource) -> TranslationProcessor:
        def train(side: int | None) -> TextProcessor:
            given = self.tokenizers[side or 0]
            if given is not None:
                return TextProcessor.from_tokenizer_file(given)
            return TextProcessor.train(
                _texts(pairs.read("train"), side),
                self.tokens,
                lowercase=self.lowercase,
                min_frequency=self.min_frequency,
                vocab_size=self.max_vocab_size,
            )

        if self.share_vocabulary:
            source = target = train(None)
        else:
            source, target = train(0), train(1)
        return TranslationProcessor(source, target, *self.languages)

    def _report_unknown(self) -> None:
        assert self.processor is not None
        texts = self._datasets["test"]
        count = min(len(texts.source), 10_000)
        shares = self.processor.unknown_share(texts.pair(row) for row in range(count))
        logger.info(
            "Read with the model's vocabulary: %.1f %% of source and %.1f %% of target tokens of "
            "the %d test pairs are unknown.",
            100 * shares[0],
            100 * shares[1],
            len(texts),
        )

    # ---- batches

    def dataset(self, split: str) -> PairDataset:
        """The pairs of a split."""
        return self._datasets[split]

    def longest_pair(self, split: str) -> int:
        """Positions that a model needs for the longest pair of a split."""
        pairs = self._datasets[split]
        # The source ends with EOS; of the target all but its EOS is fed.
        return int(max(pairs.source.lengths.max(), pairs.target.lengths.max() - 1))

    def lengths(self, split: str) -> tuple[NDArray[Any], ...]:
        """Tokens of the target and of the source of each pair."""
        pairs = self._datasets[split]
        return pairs.target.lengths, pairs.source.lengths


class PairDataset:
    """One split in the cache; indexing with an array of positions gives their batch.

    Written text is kept for the splits whose translations are compared with it.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.source = TokenArray(folder / f"{split}.source")
        self.target = TokenArray(folder / f"{split}.target")
        texts = split != "train"
        self.source_text = TextArray(folder / f"{split}.source_text") if texts else None
        self.target_text = TextArray(folder / f"{split}.target_text") if texts else None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: np.ndarray) -> TranslationBatch:
        return TranslationBatch(
            source=self.source.gather(index),
            target=self.target.gather(index),
            example=_tensor(index),
            source_text=None if self.source_text is None else [self.source_text[i] for i in index],
            target_text=None if self.target_text is None else [self.target_text[i] for i in index],
        )

    def pair(self, row: int) -> tuple[str, str]:
        """A pair as it was written."""
        assert self.source_text is not None
        assert self.target_text is not None
        return self.source_text[row], self.target_text[row]


class _Written(NamedTuple):
    longest_target: int
    fingerprint: str


def _write_split(
    folder: Path,
    split: str,
    pairs: PairSource,
    processor: TranslationProcessor,
    max_length: int | None,
) -> _Written:
    """Encode and store one split; pairs longer than `max_length` tokens are left out."""
    source = TokenWriter(folder / f"{split}.source", processor.source.vocab_size)
    target = TokenWriter(folder / f"{split}.target", processor.target.vocab_size)
    texts = None
    if split != "train":
        texts = [TextWriter(folder / f"{split}.{side}_text") for side in ("source", "target")]
    digest = hashlib.sha256()
    reader = pairs.read(split)
    count = dropped = 0
    while chunk := list(islice(reader, CHUNK)):
        digest.update(json.dumps(chunk).encode())
        sources = processor.source.encode_batch([pair[0] for pair in chunk])
        targets = processor.target.encode_batch([pair[1] for pair in chunk])
        for pair, source_ids, target_ids in zip(chunk, sources, targets, strict=True):
            if max_length is not None and max(len(source_ids), len(target_ids)) > max_length:
                dropped += 1
                continue
            source.append([*source_ids, EOS])
            target.append([BOS, *target_ids, EOS])
            if texts is not None:
                texts[0].append(pair[0])
                texts[1].append(pair[1])
            count += 1
    for writer in (source, target, *(texts or ())):
        writer.close()
    if not count:
        short = f" of at most {max_length} tokens; raise max_length" if dropped else ""
        raise DataError(f"There are no {split} pairs{short}: give more pairs (at least about 100).")
    if dropped:
        logger.info("Left out %d training pairs of more than %d tokens.", dropped, max_length)
    return _Written(target.longest, digest.hexdigest())


def _texts(pairs: Iterable[tuple[str, str]], side: int | None) -> Iterator[str]:
    """One side of pairs, or both when `side` is None."""
    for pair in pairs:
        yield from pair if side is None else (pair[side],)


def _file_text(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable tokenizer.json.") from error


def _tensor(index: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(index, dtype=np.int64))
