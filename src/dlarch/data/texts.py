"""What data modules of single texts share: vocabulary, classes, the cache, batches."""

from __future__ import annotations

import hashlib
import json
import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlarch.batches import TextBatch
from dlarch.data.arrays import TextArray, TextWriter, TokenArray, TokenWriter
from dlarch.data.bucketed import BucketedData
from dlarch.data.cache import FINGERPRINT, cache_key, cached
from dlarch.data.classes import LEFT_OUT, check_classes, chosen_classes
from dlarch.data.splits import SPLITS, picked
from dlarch.data.text_sources import TextSource
from dlarch.errors import DataError, MismatchError, OptionError, check_at_least_1
from dlarch.processing import LabelledTextProcessor, Processor, TextProcessor
from dlarch.processing.labelled_text import Keep
from dlarch.processing.text import TrainedLevel
from dlarch.spec import DataSpec

logger = logging.getLogger(__name__)

LAYOUT = 1
"""Version of the cache's files."""

CHUNK = 1000
"""Texts that are encoded at a time."""


class TextData(BucketedData):
    """Texts of different lengths, tokenised once and memory-mapped, in batches of similar length.

    Args:
        tokens: what a token is: characters, words or bpe.
        lowercase: lower-case the texts.
        min_frequency: rarer tokens become unknown.
        max_vocab_size: most ids; no limit (8,000 for bpe) when not given.
        tokenizer: a tokenizer.json to use instead of a vocabulary of the training texts.
        max_length: tokens that are read of a text; all when not given.
        keep: which tokens of a longer one: the first, the last, or of both ends half each.
        classes: names of the classes that are kept, or new classes with those that each is made of;
            all as they are when not given.
        train_size: number of training texts, picked at random but always alike; all when not given.
        batch_size: texts per batch and process.
        batch_tokens: texts times longest text per batch instead, padding included.
        num_workers: processes that make batches.
        pin_memory: page-locked batches; when not given, if there is a CUDA device.
        processor: of a trained model, to read new texts as it did its own.
    """

    batch_type = TextBatch
    processor_options = (
        "tokens",
        "lowercase",
        "min_frequency",
        "max_vocab_size",
        "max_length",
        "keep",
    )
    processor: LabelledTextProcessor | None
    in_documents: bool = True
    """Whether rows are whole texts, not windows of a long one."""

    def __init__(
        self,
        tokens: TrainedLevel = "words",
        lowercase: bool = False,
        min_frequency: int = 1,
        max_vocab_size: int | None = None,
        tokenizer: str | None = None,
        max_length: int | None = None,
        keep: Keep = "first",
        classes: list[str | int] | dict[str, list[str | int]] | None = None,
        train_size: int | None = None,
        batch_size: int = 32,
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
        )
        self.tokens = tokens
        self.lowercase = lowercase
        self.min_frequency = min_frequency
        self.max_vocab_size = max_vocab_size
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.keep = keep
        self.classes = classes
        self.train_size = train_size
        self._datasets: dict[str, Any] = {}

    @abstractmethod
    def open_source(self) -> TextSource:
        """The texts as they are before the cache."""

    def mend(self, text: str) -> str:
        """A text without what only its source adds."""
        return text

    # ---- making and opening the cache

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Open the cache."""
        folder, given = self._cache_folder(), self._given_processor()
        first = self.spec is None
        if given is None:
            self.processor = self._own = LabelledTextProcessor.load(folder)
        assert self.processor is not None
        self._datasets = {split: self._open_split(folder, split) for split in SPLITS}
        names = self.processor.class_names
        self.spec = DataSpec(
            vocab_size=self.processor.tokens.vocab_size,
            num_classes=None if names is None else len(names),
            num_conditions=None if names is None else len(names),
            fingerprint=(folder / FINGERPRINT).read_text(encoding="utf-8"),
        )
        if given is not None and first:
            logger.info(
                "Read with the model's vocabulary: %.1f %% of the tokens of the test texts are "
                "unknown.",
                100 * self._unknown_share(),
            )

    def _open_split(self, folder: Path, split: str) -> Any:
        """What makes the batches of a split."""
        return TextDataset(folder, split)

    def _unknown_share(self) -> float:
        """Share of unknown tokens in the test texts."""
        assert self.processor is not None
        texts = self._datasets["test"].texts
        return self.processor.unknown_share(texts[row] for row in range(len(texts)))

    def _cached(self) -> Path:
        given = self._given_processor()
        if given is not None and not isinstance(given, LabelledTextProcessor):
            raise MismatchError(f"The model's processor is for {given.type} data, not for texts.")
        source = self.open_source()
        key = cache_key(self.cache_settings(source))
        return cached("texts", key, lambda folder: self._build(folder, source))

    def cache_settings(self, source: TextSource) -> dict[str, Any]:
        """Everything that the cache depends on, in JSON types."""
        given = self._given_processor()
        return {
            "layout": LAYOUT,
            "content": source.content,
            "processor": None if given is None else given.hash(),
            "tokens": [self.tokens, self.lowercase, self.min_frequency, self.max_vocab_size],
            "tokenizer": self.tokenizer and Path(self.tokenizer).read_text(encoding="utf-8"),
            "length": [self.max_length, self.keep],
            "classes": self.classes,
            "mends": type(self).__name__,
            "train_size": self.train_size,
        }

    def _build(self, folder: Path, source: TextSource) -> None:
        rows = KeptRows(source, self.mend, self.classes, self.train_size)
        given = self._given_processor()
        processor = given or self._train_processor(rows)
        if given is not None and given.class_names != rows.class_names:
            raise MismatchError(
                f"The model was trained on the classes {_listed(given.class_names)}, the data have "
                f"{_listed(rows.class_names)}."
            )
        labels = {}
        digest = hashlib.sha256()
        for split in SPLITS:
            labels[split], longest = self._write_split(folder, split, rows, processor, digest)
            if split == "train":
                (folder / FINGERPRINT).write_text(digest.hexdigest(), encoding="utf-8")
                if given is None:
                    processor.longest = longest
        if rows.class_names is not None and given is None:
            check_classes(labels, rows.class_names, "texts", "leave them out with --data.classes")
        processor.save(folder)

    def _write_split(
        self,
        folder: Path,
        split: str,
        rows: KeptRows,
        processor: LabelledTextProcessor,
        digest: Any,
    ) -> tuple[NDArray[np.int64], int | None]:
        """Store one split; its labels, and the tokens of its longest text, if it has texts."""
        return _write_texts(folder, split, rows, processor, digest)

    def _train_processor(self, rows: KeptRows) -> LabelledTextProcessor:
        if self.tokenizer is not None:
            tokens = TextProcessor.from_tokenizer_file(self.tokenizer)
        else:
            tokens = TextProcessor.train(
                (text for text, _ in rows.read("train")),
                self.tokens,
                lowercase=self.lowercase,
                min_frequency=self.min_frequency,
                vocab_size=self.max_vocab_size,
            )
        return LabelledTextProcessor(
            tokens, rows.class_names, rows.label_name, self.max_length, self.keep
        )

    # ---- batches

    def dataset(self, split: str) -> Any:
        """The texts of a split."""
        return self._datasets[split]

    def lengths(self, split: str) -> tuple[NDArray[Any], ...]:
        """Tokens of each text."""
        return (self._datasets[split].tokens.lengths,)


class TextDataset:
    """One split in the cache; indexing with an array of positions gives their batch.

    Written text is kept for the splits that are shown.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.tokens = TokenArray(folder / f"{split}.ids")
        labels = folder / f"{split}.labels.npy"
        self.labels: NDArray[np.int64] | None = np.load(labels) if labels.exists() else None
        self.texts = TextArray(folder / f"{split}.text") if split != "train" else None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: np.ndarray) -> TextBatch:
        return TextBatch(
            tokens=self.tokens.gather(index),
            label=None if self.labels is None else torch.from_numpy(self.labels[index]),
            example=torch.from_numpy(np.asarray(index, dtype=np.int64)),
            text=None if self.texts is None else [self.texts[row] for row in index],
        )


class KeptRows:
    """The texts of a source with the labels of the classes that are kept."""

    def __init__(
        self,
        source: TextSource,
        mend: Callable[[str], str],
        classes: Any,
        train_size: int | None,
    ) -> None:
        self.source, self._mend = source, mend
        self.label_name = source.label_name
        count, names = 0, Counter[str]()
        for _, name in source.read("train"):
            count += 1
            if name is not None:
                names[name] += 1
        self.class_names = source.class_names or (sorted(names) if names else None)
        self._labels: dict[str, int] = {}
        if self.class_names is not None:
            self._label_classes(classes, names)
        elif classes is not None:
            raise OptionError("These texts have no classes: leave out the option classes.")
        train = picked(np.arange(count), train_size)
        self._train = None if len(train) == count else set(train.tolist())

    def _label_classes(self, asked: Any, counts: Counter[str]) -> None:
        assert self.class_names is not None
        old, new = self.class_names, np.arange(len(self.class_names))
        if asked is not None:
            self.class_names, new = chosen_classes(asked, old)
        self._labels = dict(zip(old, new.tolist(), strict=True))
        if len(self.class_names) < 2:
            raise DataError(
                f"All texts are of one class, {self.class_names[0]!r}: give texts of another, too."
            )
        for name in old:
            if counts[name] == 1 and self._labels[name] != LEFT_OUT:
                raise DataError(
                    f"The class {name!r} has one training text only, from which nothing can be "
                    "learnt of others: add some, or leave it out with --data.classes."
                )

    def read(self, split: str) -> Iterator[tuple[str, int | None]]:
        """The texts of a split, each with its label."""
        chosen = self._train if split == "train" else None
        for row, (written, name) in enumerate(self.source.read(split)):
            if chosen is not None and row not in chosen:
                continue
            text = self._mend(written)
            if name is None:
                yield text, None
                continue
            label = self._labels.get(name)
            if label is None:
                raise DataError(
                    f"Split {split} has a text of class {name!r}, but train has none: add some to "
                    "train, or remove it."
                )
            if label != LEFT_OUT:
                yield text, label


def _write_texts(
    folder: Path, split: str, rows: KeptRows, processor: LabelledTextProcessor, digest: Any
) -> tuple[NDArray[np.int64], int]:
    """Encode and store one split; its labels, and the tokens of its longest text."""
    tokens = TokenWriter(folder / f"{split}.ids", processor.tokens.vocab_size)
    written = None if split == "train" else TextWriter(folder / f"{split}.text")
    labels: list[int] = []
    reader = rows.read(split)
    while chunk := list(islice(reader, CHUNK)):
        digest.update(json.dumps(chunk).encode())
        texts = [text for text, _ in chunk]
        for ids in processor.encode_rows(texts):
            tokens.append(ids)
        labels += [label for _, label in chunk if label is not None]
        if written is not None:
            for text in texts:
                written.append(text)
    tokens.close()
    if written is not None:
        written.close()
    if not len(tokens.lengths):
        raise DataError(f"There are no {split} texts: give more (at least about 100).")
    found = np.array(labels, dtype=np.int64)
    if len(found):
        np.save(folder / f"{split}.labels.npy", found)
    return found, tokens.longest


def _listed(names: list[str] | None) -> str:
    return ", ".join(names) if names else "none"
