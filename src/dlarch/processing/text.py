"""Text of one language to token ids and back, through the `tokenizers` library."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from dlarch.errors import CheckpointError, DataError, OptionError, check_at_least_1, did_you_mean
from dlarch.processing.vocabulary import parse, read_tokenizer_file, without_added_tokens
from dlarch.processing.words import PATTERN, join_words, split_words
from dlarch.spec import BOS, EOS, PAD, SPECIAL_TOKENS, UNK

TrainedLevel = Literal["characters", "words", "bpe"]
"""What a token is in a vocabulary that is taken from texts."""

Level = Literal[TrainedLevel, "foreign"]
"""What a token is; "foreign": whatever a tokenizer.json from elsewhere says."""

_BYTES = 256
_NO_LIMIT = 2**31 - 1
_DEFAULT_BPE_SIZE = 8000
_CHUNK = 1000


class TextProcessor:
    """The vocabulary of one language.

    Ids 0 to 3 are padding, unknown, beginning and end (`dlarch.spec`). No text is ever encoded as
    padding, beginning or end: `<pad>` in the data is ordinary text.

    Levels:
        characters: each Unicode character is a token; the round trip is exact.
        words: words and punctuation (in Unicode form NFC); decoding writes no space before
            punctuation.
        bpe: byte-pair encoding of UTF-8 bytes; the round trip is exact and nothing is unknown.
        foreign: as the tokenizer.json says that it was read from.

    Args:
        tokenizer: content of a tokenizer.json whose ids 0 to 3 are the special ones.
        level: what a token is.
        lowercase: whether the text is lower-cased first; a part of the tokenizer already.

    Raises:
        CheckpointError: `tokenizer` cannot be read, or its special ids are elsewhere.
    """

    def __init__(self, tokenizer: str, level: Level, lowercase: bool = False) -> None:
        _check_level(level)
        self.level: Level = level
        self.lowercase = lowercase
        self._json = tokenizer  # kept as it came: `hash` must not depend on the library's version
        self._tokenizer = parse(tokenizer)
        self._tokens = _tokens_by_id(self._tokenizer)
        first = tuple(self._tokenizer.id_to_token(index) for index in range(len(SPECIAL_TOKENS)))
        if level != "foreign" and first != SPECIAL_TOKENS:
            raise CheckpointError(
                f"The first ids of the tokenizer are {first}, not {SPECIAL_TOKENS};"
                " read it with TextProcessor.from_tokenizer_file."
            )

    # Making one -----------------------------------------------------------------------------

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        level: Level,
        lowercase: bool = False,
        min_frequency: int = 1,
        vocab_size: int | None = None,
    ) -> TextProcessor:
        """Count the tokens of `texts`, which is read once and never held in memory.

        The same texts give the same vocabulary: by falling frequency, then by code points.

        Args:
            texts: the training texts.
            level: "characters", "words" or "bpe".
            lowercase: lower-case everything.
            min_frequency: rarer tokens (for bpe: pairs to be merged) are left out.
            vocab_size: at most so many ids, the 4 special ones included; None is no limit, for bpe
                8000. Bpe needs at least 260.

        Raises:
            OptionError: an option cannot be used.
            DataError: there is no text.
        """
        _check_level(level, trainable=True)
        check_at_least_1(min_frequency=min_frequency)
        smallest = len(SPECIAL_TOKENS) + (_BYTES if level == "bpe" else 1)
        if vocab_size is not None and vocab_size < smallest:
            raise OptionError(
                f"vocab_size must be at least {smallest} for level {level!r}, not {vocab_size}."
            )
        tokenizer = _untrained(level, lowercase)
        seen = _Seen(texts)
        with _one_thread():
            tokenizer.train_from_iterator(seen, _trainer(level, min_frequency, vocab_size))
        if not seen.any:
            raise DataError(f"There is no text to take the vocabulary ({level}) from.")
        return cls(without_added_tokens(tokenizer.to_str()), level, lowercase)

    @classmethod
    def from_tokens(
        cls, tokens: Iterable[str], level: Level, lowercase: bool = False
    ) -> TextProcessor:
        """A given vocabulary of characters or words, ids from 4 in the order of `tokens`.

        Special tokens among them are skipped.

        Raises:
            OptionError: the level is neither "characters" nor "words".
        """
        if level not in ("characters", "words"):
            raise OptionError(f"A list of tokens makes level characters or words, not {level!r}.")
        vocabulary = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
        for token in tokens:
            vocabulary.setdefault(token, len(vocabulary))
        tokenizer = _untrained(level, lowercase)
        tokenizer.model = models.WordLevel(vocabulary, unk_token=SPECIAL_TOKENS[UNK])
        return cls(tokenizer.to_str(), level, lowercase)

    @classmethod
    def from_tokenizer_file(cls, path: str | Path) -> TextProcessor:
        """Read a tokenizer.json of any maker; its special tokens get the ids 0 to 3.

        They are recognised by their usual names (`[PAD]`, `<s>`, `</s>`, ...); missing ones are
        added. The other tokens keep their order.

        Raises:
            CheckpointError: the file is missing, damaged or of an unknown kind.
        """
        return cls(read_tokenizer_file(Path(path)), "foreign")

    # Using it -------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Number of ids, the 4 special ones included."""
        return len(self._tokens)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without BOS and EOS."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of many texts, without BOS and EOS.

        Raises:
            DataError: a text is not a string of valid Unicode.
        """
        with _one_thread():
            try:
                # The fast form, which keeps no offsets, came with tokenizers 0.20.
                many = getattr(self._tokenizer, "encode_batch_fast", self._tokenizer.encode_batch)
                encodings = many(texts, add_special_tokens=False)
            except (TypeError, UnicodeEncodeError) as error:
                raise DataError(f"Only valid Unicode text can be encoded: {error}.") from error
        rows = [encoding.ids for encoding in encodings]
        return [_without_special(ids) for ids in rows] if self.level == "foreign" else rows

    def tokens(self, text: str) -> list[str]:
        """The pieces that `encode` gives ids to; unknown ones as they stand in the text."""
        return self._named(text, self.id_to_token)

    def pieces(self, text: str) -> list[str]:
        """The same in readable form, see `as_text`."""
        return self._named(text, self.as_text)

    def _named(self, text: str, name: Callable[[int], str]) -> list[str]:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return [
            text[start:end] if index == UNK and end > start else name(index)
            for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
        ]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of a row of ids, up to EOS; special ids are left out."""
        kept: list[int] = []
        for index in ids:
            if index == EOS:
                break
            if index >= len(SPECIAL_TOKENS):
                kept.append(int(index))
        if self.level == "characters":
            return "".join(self._tokens[index] for index in kept)
        if self.level == "words":
            return join_words([self._tokens[index] for index in kept])
        return self._tokenizer.decode(kept)

    @property
    def tokens_by_id(self) -> tuple[str, ...]:
        """All tokens in the order of their ids; the first 4 are `SPECIAL_TOKENS`."""
        return self._tokens

    def readable(self) -> list[str]:
        """All tokens in the order of their ids, as they read, see `as_text`."""
        return [self.as_text(index) for index in range(self.vocab_size)]

    def normalize(self, text: str) -> str:
        """The text as `decode` would write it if no word of it were unknown."""
        if self.level == "foreign":
            return self.decode(self.encode(text))
        if self._tokenizer.normalizer is not None:  # its lower case is not quite that of Python
            text = self._tokenizer.normalizer.normalize_str(text)
        return join_words(split_words(text)) if self.level == "words" else text

    def id_to_token(self, index: int) -> str:
        """How the token with this id is written.

        Raises:
            IndexError: there is no such id.
        """
        if not 0 <= index < self.vocab_size:
            raise IndexError(f"No token has the id {index}; the vocabulary has {self.vocab_size}.")
        return self._tokens[index]

    def as_text(self, index: int) -> str:
        """How the token with this id reads: bytes as the characters that they mean.

        Bytes that are only a part of a character are `�`.

        Raises:
            IndexError: there is no such id.
        """
        token = self.id_to_token(index)
        of_bytes = isinstance(self._tokenizer.decoder, decoders.ByteLevel)
        return self._tokenizer.decode([index]) or token if of_bytes else token

    def token_to_id(self, token: str) -> int:
        """The id of a token, UNK if it is not in the vocabulary."""
        if token in SPECIAL_TOKENS:
            return SPECIAL_TOKENS.index(token)
        index = self._tokenizer.token_to_id(token)
        return UNK if index is None else int(index)

    def count_unknown(self, texts: Iterable[str]) -> tuple[int, int]:
        """Numbers of unknown tokens and of all tokens in `texts`, which are read in chunks."""
        unknown = total = 0
        iterator = iter(texts)
        while chunk := list(islice(iterator, _CHUNK)):
            for ids in self.encode_batch(chunk):
                unknown += ids.count(UNK)
                total += len(ids)
        return unknown, total

    def unknown_share(self, texts: Iterable[str]) -> float:
        """Share of the tokens of `texts` that are unknown, 0 to 1; 0 if there are no tokens."""
        unknown, total = self.count_unknown(texts)
        return unknown / max(total, 1)

    # Storing it -----------------------------------------------------------------------------

    def tokenizer_json(self) -> str:
        """Content of the tokenizer.json, which `transformers` can open."""
        return self._json

    def to_dict(self) -> dict[str, Any]:
        """Level, lowercase and the tokenizer.json as a string."""
        return {"level": self.level, "lowercase": self.lowercase, "tokenizer": self._json}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TextProcessor:
        """Inverse of `to_dict`.

        Raises:
            CheckpointError: something is missing or damaged.
        """
        for name, kind in (("tokenizer", str), ("level", str), ("lowercase", bool)):
            if not isinstance(values, Mapping) or not isinstance(values.get(name), kind):
                raise CheckpointError(f"A stored text processor needs {name!r}, a {kind.__name__}.")
        try:
            return cls(values["tokenizer"], values["level"], values["lowercase"])
        except OptionError as error:
            raise CheckpointError(str(error)) from error

    def __eq__(self, other: object) -> bool:
        """Equal when everything that is stored is equal."""
        if not isinstance(other, TextProcessor):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.level, self.lowercase, self._json))

    def __repr__(self) -> str:
        return f"TextProcessor({self.level}, {self.vocab_size} ids, lowercase={self.lowercase})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._json, self.level, self.lowercase)


class _Seen:
    """Passes texts on and remembers whether one was not empty."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = texts
        self.any = False

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            self.any = self.any or bool(text)
            yield text


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep the library from starting threads, unless the user asked for them.

    Once it has used threads it warns at every fork, so at every start of loader workers.
    """
    if "TOKENIZERS_PARALLELISM" in os.environ:
        yield
        return
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        os.environ.pop("TOKENIZERS_PARALLELISM", None)


def _check_level(level: str, trainable: bool = False) -> None:
    choices = get_args(TrainedLevel if trainable else Level)
    if level not in choices:
        raise OptionError(
            f"Unknown level {level!r}; choose one of {', '.join(choices)}."
            + did_you_mean(level, choices)
        )


def _untrained(level: Level, lowercase: bool) -> Tokenizer:
    """A tokenizer with everything but a vocabulary."""
    steps: list[Any] = [normalizers.Lowercase()] if lowercase else []
    if level == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL_TOKENS[UNK]))
        if level == "characters":
            tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
            tokenizer.decoder = decoders.Fuse()
        else:  # what lies between the matches is removed
            tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), "removed", invert=True)
            steps.append(normalizers.NFC())
    if steps:
        tokenizer.normalizer = normalizers.Sequence(steps)
    return tokenizer


def _trainer(level: Level, min_frequency: int, vocab_size: int | None) -> Any:
    options: dict[str, Any] = {
        "min_frequency": min_frequency,
        "special_tokens": list(SPECIAL_TOKENS),
        "show_progress": False,
    }
    if level == "bpe":
        return trainers.BpeTrainer(
            vocab_size=vocab_size or _DEFAULT_BPE_SIZE,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            **options,
        )
    return trainers.WordLevelTrainer(vocab_size=vocab_size or _NO_LIMIT, **options)


def _tokens_by_id(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Tokens in the order of their ids; the special ones by our names."""
    by_id = {index: token for token, index in tokenizer.get_vocab(with_added_tokens=True).items()}
    if not by_id or set(by_id) != set(range(len(by_id))):
        raise CheckpointError("The ids of the tokenizer are not 0, 1, 2, ... without a gap.")
    if len(by_id) < len(SPECIAL_TOKENS):
        raise CheckpointError(f"The tokenizer has {len(by_id)} tokens, at least 4 are needed.")
    return (*SPECIAL_TOKENS, *(by_id[index] for index in range(len(SPECIAL_TOKENS), len(by_id))))


def _without_special(ids: list[int]) -> list[int]:
    """A foreign tokenizer may still read `<s>` in a text as its special token: make it unknown."""
    if PAD in ids or BOS in ids or EOS in ids:
        return [UNK if index in (PAD, BOS, EOS) else index for index in ids]
    return ids
