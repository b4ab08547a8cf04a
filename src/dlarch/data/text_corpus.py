"""Long texts: contiguous streams for truncated backpropagation, random windows, or documents."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from dlarch.batches import TextBatch
from dlarch.data import corpus_sources
from dlarch.data.arrays import TokenArray, TokenWriter
from dlarch.data.corpus_sources import (
    Documents,
    JoinedRows,
    LongText,
    Sequenced,
    Shares,
    TextFiles,
    file_documents,
    is_text,
)
from dlarch.data.generators import number_words, tunes
from dlarch.data.readers import SUFFIXES
from dlarch.data.resolve import HubId, LocalFile, LocalFolder, content_hash, resolve_source
from dlarch.data.streams import evaluation_windows, random_windows, training_streams
from dlarch.data.text_sources import TextSource, check_has_data, open_texts
from dlarch.data.texts import KeptRows, TextData
from dlarch.errors import DataError, OptionError, check_at_least_1
from dlarch.processing import LabelledTextProcessor, Processor
from dlarch.processing.text import TrainedLevel
from dlarch.registry import register_data
from dlarch.spec import BOS, PAD, UNK

NUMBER_WORDS, ABC_TUNES = "number_words", "abc_tunes"
"""The embedded sources."""

TUNES = 3000
"""How many tunes are composed."""

SHARE = 0.05
"""Of what is held out, for validation and for the test each."""

Reading = Literal["streams", "windows", "documents"]
"""How a text is cut into the rows of batches."""


@register_data("text_corpus")
class TextCorpusData(TextData):
    """Long texts: your own file or folder, a Hub id, numbers in words, or tunes.

    They are read in one of three ways. `streams`: the text is cut into as many streams as a batch
    has rows, and each batch goes on where the one before ended, so that a recurrent network can
    keep its state (truncated backpropagation through time). `windows`: each batch has windows from
    anywhere in the text. `documents`: each file of a folder, each paragraph of a single file, each
    row of a table is a text with beginning and end. The files of a folder follow each other as one
    long text otherwise.

    A text is divided by position, documents by a hash; splits after which the folders or files of
    a folder are called (train, validation, test) stay as they are.

    Args:
        source: `number_words` (0 to 9999 in words, counted up within each hundred), `abc_tunes`
            (3,000 tunes in ABC notation), a text file, a folder of them, a .csv, .tsv or .jsonl
            file with a column of texts, or a Hub id.
        reading: streams, windows or documents; documents for `abc_tunes`, streams for others when
            not given.
        window: tokens that are predicted in a row of a batch, T.
        tokens: what a token is: characters, words or bpe; words for `number_words`, characters for
            others when not given.
        lowercase: lower-case the text.
        min_frequency: rarer tokens become unknown.
        max_vocab_size: most ids; no limit (8,000 for bpe) when not given.
        tokenizer: a tokenizer.json to use instead of a vocabulary of the training text.
        validation_share: share of the text that is for validation, 0.05 when not given.
        test_share: share of the text that is for the test, its end; 0.05 when not given. With 0 the
            test scores the validation split.
        evaluation_streams: streams that validation and test are cut into. With 1 each token is
            scored with its whole past; more of them are faster.
        language: of `number_words`: de, en, es, fr, it, nl or pt.
        text_column: column of the texts of a table.
        max_length: of documents, tokens that are read.
        train_size: of documents, how many are for training; all when not given.
        batch_size: rows of a batch, per process.
        num_workers: processes that make batches.
        pin_memory: page-locked batches; when not given, if there is a CUDA device.
        processor: of a trained model, to read new texts as it did its own.
    """

    def __init__(
        self,
        source: str = NUMBER_WORDS,
        reading: Reading | None = None,
        window: int = 128,
        tokens: TrainedLevel | None = None,
        lowercase: bool = False,
        min_frequency: int = 1,
        max_vocab_size: int | None = None,
        tokenizer: str | None = None,
        validation_share: float | None = None,
        test_share: float | None = None,
        evaluation_streams: int = 1,
        language: str = "en",
        text_column: str = "text",
        max_length: int | None = None,
        train_size: int | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        processor: Processor | None = None,
    ) -> None:
        super().__init__(
            tokens=tokens or ("words" if source == NUMBER_WORDS else "characters"),
            lowercase=lowercase,
            min_frequency=min_frequency,
            max_vocab_size=max_vocab_size,
            tokenizer=tokenizer,
            max_length=max_length,
            train_size=train_size,
            batch_size=batch_size,
            num_workers=num_workers,
            pin_memory=pin_memory,
            processor=processor,
        )
        self.reading: Reading = reading or ("documents" if source == ABC_TUNES else "streams")
        if self.reading not in get_args(Reading):
            raise OptionError(f"reading must be streams, windows or documents, not {reading!r}.")
        check_at_least_1(window=window, evaluation_streams=evaluation_streams)
        self.in_documents = self.reading == "documents"
        if not self.in_documents and (max_length or train_size):
            raise OptionError("max_length and train_size are of documents: leave them out.")
        self.source = source
        self.window = window
        asked = (validation_share, test_share)
        self._shares_given = asked != (None, None)
        self.shares = Shares(*(SHARE if share is None else share for share in asked))
        self.evaluation_streams = evaluation_streams
        self.language = language
        self.text_column = text_column

    def open_source(self) -> TextSource:
        """The documents, or pieces that follow each other."""
        if self.source in (NUMBER_WORDS, ABC_TUNES):
            return self._generated()
        where = resolve_source(self.source, known=(NUMBER_WORDS, ABC_TUNES))
        if _is_table(where):
            if self._shares_given:
                raise OptionError("The rows of a table are divided 90/5/5: leave the shares out.")
            texts = open_texts(self.source, self.text_column, None)
            return texts if self.in_documents else JoinedRows(texts)
        assert not isinstance(where, HubId)
        files = TextFiles(where)
        return (file_documents if self.in_documents else LongText)(files, self.shares)

    def _generated(self) -> TextSource:
        module = number_words if self.source == NUMBER_WORDS else tunes
        code = content_hash(LocalFile(Path(inspect.getfile(module))))
        content = {"generator": self.source, "code": code}
        if self.source == NUMBER_WORDS:
            content["language"] = self.language

            @cache
            def made() -> list[str]:
                return number_words.hundreds(self.language)

        else:

            @cache
            def made() -> list[str]:
                # Which of a list it is does not belong to a tune.
                composed = (tune.partition("\n")[2] for tune in tunes.tunes(TUNES))
                return [f"X:1\n{tune}" for tune in composed]

        if self.in_documents:
            return Documents(content, lambda _: made(), self.shares)
        return Sequenced(content, made, " " if module is number_words else "\n", self.shares)

    # ---- the cache: ids that follow each other, with BOS before the first

    def cache_settings(self, source: TextSource) -> dict[str, Any]:
        """Documents and long texts are stored differently."""
        return super().cache_settings(source) | {"documents": self.in_documents}

    def _write_split(
        self,
        folder: Path,
        split: str,
        rows: KeptRows,
        processor: LabelledTextProcessor,
        digest: Any,
    ) -> tuple[NDArray[np.int64], int | None]:
        if self.in_documents:
            return super()._write_split(folder, split, rows, processor, digest)
        tokens = TokenWriter(folder / f"{split}.ids", processor.tokens.vocab_size)
        tokens.append([BOS])
        for piece, _ in rows.read(split):
            digest.update(piece.encode())
            tokens.append(processor.tokens.encode(piece))
        tokens.close()
        if sum(tokens.lengths) < 2:
            raise DataError(f"{self.source} holds no {split} text: give more.")
        return np.zeros(0, np.int64), None

    def _open_split(self, folder: Path, split: str) -> Any:
        if self.in_documents:
            return super()._open_split(folder, split)
        return WindowDataset(folder, split, self.window, carried=self.reading == "streams")

    def _unknown_share(self) -> float:
        return float(np.mean(self._datasets["test"].tokens.tokens == UNK))

    # ---- batches

    def training_plan(self, seed: int, epoch: int) -> list[np.ndarray]:
        """Streams or windows from another place in each epoch; documents of similar length."""
        if self.in_documents:
            return super().training_plan(seed, epoch)
        plan = training_streams if self.reading == "streams" else random_windows
        return plan(
            len(self._datasets["train"]), self.window, self.batch_size,
            seed=seed, epoch=epoch, world_size=self.world_size, rank=self.rank,
        )  # fmt: skip

    def evaluation_plan(self, split: str) -> list[np.ndarray]:
        """Each token of the split once, over all ranks."""
        if self.in_documents:
            return super().evaluation_plan(split)
        streams = self.evaluation_streams if self.reading == "streams" else None
        return evaluation_windows(
            len(self._datasets[split]), self.window, streams or self.batch_size,
            carried=streams is not None, world_size=self.world_size, rank=self.rank,
        )  # fmt: skip

    def predict_dataloader(self) -> Any:
        """The test split in its order."""
        return super().predict_dataloader() if self.in_documents else self.test_dataloader()


class WindowDataset:
    """One split of a long text; indexing gives the windows that begin at some of its tokens.

    An index is the position of the first token that is predicted. The window begins with the token
    before it; at ~position it begins with BOS instead, as if nothing had been before.

    Args:
        folder: of the cache.
        split: which.
        window: tokens that are predicted.
        carried: whether a window that does not begin with BOS goes on from the batch before.
    """

    def __init__(self, folder: Path, split: str, window: int, carried: bool) -> None:
        self.tokens = TokenArray(folder / f"{split}.ids")
        self.window, self.carried = window, carried

    def __len__(self) -> int:
        """Tokens that are predicted."""
        return len(self.tokens.tokens) - 1

    def read_at(self, index: np.ndarray) -> np.ndarray:
        """Positions of the tokens that are predicted in a batch."""
        at = np.where(index < 0, ~index, index)[:, None] + np.arange(self.window)
        return at[at < len(self)]

    def __getitem__(self, index: np.ndarray) -> TextBatch:
        begins = index < 0
        at = np.where(begins, ~index, index)
        width = min(self.window, int((len(self) - at).max()))
        places = at[:, None] + np.arange(width + 1)
        beyond = places > len(self)
        ids = self.tokens.tokens[np.minimum(places, len(self))].astype(np.int64)
        ids[beyond] = PAD
        ids[begins, 0] = BOS
        return TextBatch(
            tokens=torch.from_numpy(ids),
            example=torch.from_numpy(at),
            goes_on=torch.from_numpy(~begins) if self.carried else None,
        )


def _is_table(where: LocalFile | LocalFolder | HubId) -> bool:
    """Whether the texts are rows: of a data set in the Hub's layout, or of a file with columns."""
    if isinstance(where, LocalFile):
        return where.path.suffix.lower() in SUFFIXES and where.path.suffix.lower() != ".txt"
    if isinstance(where, HubId):
        return True
    if any(is_text(path) for path in where.path.rglob("*")):
        return False
    check_has_data(where, f"add texts ({', '.join(corpus_sources.SUFFIXES)})")
    return True
