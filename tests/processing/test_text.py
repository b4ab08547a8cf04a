import json
import os
import random
import subprocess
import sys
from collections import Counter

import pytest

from dlarch.errors import CheckpointError, DataError, OptionError
from dlarch.processing import TextProcessor
from dlarch.spec import BOS, EOS, PAD, SPECIAL_TOKENS, UNK

LEVELS = ["characters", "words", "bpe"]
NASTY = [
    "  two  spaces\tand a tab \n\n newlines\r\n ",
    "\ufeffBOM \x00 NUL \x1f \x7f",
    "é e\u0301 ﬁ İ ß ẞ Σίσυφος",
    "👩‍👩‍👧‍👦 🇫🇷 👍🏽 𝒳 \U0010ffff",
    "שלום مرحبا 日本語 ไทย नमस्ते",
    "nbsp\u00a0thin\u2009line\u2028par\u2029zero\u200bwidth \ufffd \ue000",
    "<pad><unk><bos><eos> <s></s> [PAD] Ġ Ċ ▁",
    "",
    " ",
]
SENTENCES = [
    "It's 10:30, isn't it? Don't pay $1,000.50 (or €5)!",
    "He said: \"no\", then 'yes' - a two-piece t-shirt…",
    "L'été, qu'est-ce que c'est ? « Rien », dit-il ; aujourd'hui 3,5 %.",
    "Er rief: „Halt!“ und ging… Größe 42/43 (ca. 20°).",
    "The dogs' “tails” — wag; e.g. A&B #1 @home [x] {y} 3D ½ m².",
    "l’homme n’a pas d’amis, it’s fine. ROCK'N'ROLL o'clock 90's",
]


def corpus(seed: int = 0, lines: int = 300) -> list[str]:
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcde", k=draw.randint(1, 4))) for _ in range(80)]
    return [" ".join(draw.choices(words, k=6)) for _ in range(lines)]


@pytest.mark.parametrize("level", ["characters", "bpe"])
def test_the_round_trip_is_exact(level):
    processor = TextProcessor.train(NASTY + SENTENCES, level)
    for text in NASTY + SENTENCES:
        assert processor.decode(processor.encode(text)) == text


def test_bpe_knows_every_text_it_never_saw():
    processor = TextProcessor.train(["abc abc"], "bpe")
    for text in NASTY + SENTENCES:
        assert UNK not in processor.encode(text)
        assert processor.decode(processor.encode(text)) == text


def test_each_character_is_one_token():
    processor = TextProcessor.train(NASTY, "characters")
    for text in NASTY:
        assert len(processor.encode(text)) == len(text)
        assert processor.tokens(text) == list(text)


@pytest.mark.parametrize("lowercase", [False, True])
def test_word_normalised_round_trip_is_idempotent(lowercase):
    processor = TextProcessor.train(SENTENCES + NASTY, "words", lowercase=lowercase)
    for text in SENTENCES + NASTY:
        once = processor.decode(processor.encode(text))
        assert processor.encode(once) == processor.encode(text)
        assert processor.decode(processor.encode(once)) == once


def test_random_words_and_punctuation_join_to_what_splits_into_the_same_tokens():
    draw = random.Random(1)
    pieces = ["a", "don", "t", "s", "3", "10", "é", "l", *".,;:!?'\"’“”„«»-/()[]{}$€#@&%°…_–"]
    texts = ["".join(draw.choices([*pieces, " ", " "], k=12)) for _ in range(3000)]
    processor = TextProcessor.train(texts, "words")
    for text in texts:
        tokens = processor.tokens(text)
        assert processor.tokens(processor.decode(processor.encode(text))) == tokens, text


def test_bpe_lowercase_round_trip_is_the_lowered_text():
    processor = TextProcessor.train(SENTENCES, "bpe", lowercase=True)
    assert processor.decode(processor.encode("Don't Pay")) == "don't pay"


def test_decoding_words_puts_spaces_where_people_do():
    processor = TextProcessor.train(SENTENCES, "words")
    assert [processor.decode(processor.encode(text)) for text in SENTENCES] == [
        "It's 10:30, isn't it? Don't pay $1,000.50 (or € 5)!",
        "He said: \"no\", then 'yes'-a two-piece t-shirt…",
        "L'été, qu'est-ce que c'est? « Rien », dit-il; aujourd'hui 3,5%.",
        "Er rief: „Halt!“ und ging… Größe 42/43 (ca. 20°).",
        "The dogs' “tails” — wag; e.g. A & B #1 @home [x] {y} 3D ½ m².",
        "l’homme n’a pas d’amis, it’s fine. ROCK'N'ROLL o'clock 90's",
    ]


def test_words_are_split_from_punctuation_and_clitics():
    processor = TextProcessor.train(SENTENCES, "words", lowercase=True)
    assert processor.tokens("It's l'été, isn't 1,000.50?") == [
        *["it", "'s", "l'", "été", ",", "isn", "'t", "1,000.50", "?"]
    ]


def test_words_are_the_same_however_their_accents_are_coded():
    processor = TextProcessor.train(["caf\u00e9"], "words")
    assert processor.encode("cafe\u0301") == processor.encode("caf\u00e9") == [4]


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_normalize_is_what_decoding_gives_when_nothing_is_unknown(level, lowercase):
    texts = [*SENTENCES, *NASTY, "ΣΊΣΥΦΟΣ ΟΔΟΣ", "İstanbul"]
    processor = TextProcessor.train(texts, level, lowercase=lowercase)
    for text in texts:
        assert processor.normalize(text) == processor.decode(processor.encode(text))
    few = TextProcessor.train(["a"], level, lowercase=lowercase)
    assert [few.normalize(text) for text in texts] == [processor.normalize(text) for text in texts]


@pytest.mark.parametrize("level", LEVELS)
def test_special_ids_are_reserved_and_never_come_from_text(level):
    texts = [*SPECIAL_TOKENS, "<pad> <unk> <bos> <eos>", "a<eos>b <pad>"] * 20
    processor = TextProcessor.train(texts, level)
    assert processor.tokens_by_id[:4] == SPECIAL_TOKENS
    assert [processor.id_to_token(i) for i in (PAD, UNK, BOS, EOS)] == list(SPECIAL_TOKENS)
    for ids in processor.encode_batch(texts):
        assert min(ids) > 3
    pieces = "".join(processor.tokens("<pad><eos>"))
    assert pieces == "<pad><eos>"


@pytest.mark.parametrize("level", ["characters", "words"])
@pytest.mark.parametrize(("min_frequency", "vocab_size"), [(1, None), (300, None), (2, 20), (1, 5)])
def test_the_vocabulary_is_what_a_counter_gives(level, min_frequency, vocab_size):
    texts = corpus()
    counter = Counter(
        token for text in texts for token in (text if level[0] == "c" else text.split())
    )
    expected = sorted(
        (token for token, count in counter.items() if count >= min_frequency),
        key=lambda token: (-counter[token], token),
    )
    processor = TextProcessor.train(
        iter(texts), level, min_frequency=min_frequency, vocab_size=vocab_size
    )
    expected = [*SPECIAL_TOKENS, *expected][:vocab_size]
    assert list(processor.tokens_by_id) == expected
    assert processor.vocab_size == len(expected)


def test_a_vocabulary_has_no_limit_of_its_own():
    texts = [f"w{number}" for number in range(31_000)]  # the library's trainer stops at 30,000
    assert TextProcessor.train(texts, "words").vocab_size == 31_004


def test_bpe_merges_frequent_pairs_up_to_the_size():
    texts = ["ab ab ab ab cd cd"] * 3
    assert TextProcessor.train(texts, "bpe", vocab_size=260).vocab_size == 260
    largest = TextProcessor.train(texts, "bpe")
    assert set(largest.tokens_by_id[260:]) == {"ab", "Ġab", "cd", "Ġcd"}
    assert "Ġcd" not in TextProcessor.train(texts, "bpe", min_frequency=7).tokens_by_id


@pytest.mark.parametrize("level", LEVELS)
def test_training_gives_the_same_bytes_with_and_without_threads(level):
    program = (
        "import sys, json; from dlarch.processing import TextProcessor;"
        "texts = json.load(sys.stdin);"
        f"print(TextProcessor.train(texts, {level!r}, vocab_size=300).tokenizer_json())"
    )
    texts = corpus(2, 2000)
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "TOKENIZERS_PARALLELISM": threads, "PYTHONHASHSEED": seed},
        ).stdout
        for order, threads, seed in [(texts, "false", "1"), (texts[::-1], "true", "2")]
    }
    assert len(outputs) == 1


def test_the_environment_is_left_as_it_was(monkeypatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    seen = []

    def texts():
        seen.append(os.environ.get("TOKENIZERS_PARALLELISM"))
        yield "a"

    TextProcessor.train(texts(), "words").encode("a")
    assert seen == ["false"]
    assert "TOKENIZERS_PARALLELISM" not in os.environ
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    TextProcessor.train(texts(), "words")
    assert seen == ["false", "true"]


def test_training_streams_and_passes_errors_of_the_reader_on():
    drawn = 0

    def texts():
        nonlocal drawn
        for drawn in range(5000):  # noqa: B007
            yield "a b"
        raise DataError("my.tsv, line 5001: 3 columns")

    with pytest.raises(DataError, match="line 5001"):
        TextProcessor.train(texts(), "words")
    assert drawn == 4999


def test_decode_drops_special_ids_and_stops_at_the_end():
    processor = TextProcessor.train(["ab"], "characters")
    a, b = processor.encode("ab")
    assert processor.decode([BOS, a, PAD, UNK, b, EOS, a, a]) == "ab"
    assert processor.decode([]) == ""


def test_unknown_share_counts_tokens():
    processor = TextProcessor.train(["a b c"], "words")
    assert processor.unknown_share(["a x b", "y", "", "c c c c"]) == 2 / 8
    assert processor.unknown_share([]) == 0.0
    assert processor.unknown_share(text for text in ["x"] * 2500) == 1.0


def test_unknown_tokens_are_shown_as_they_stand_in_the_text():
    processor = TextProcessor.train(["the dog"], "words", lowercase=True)
    assert processor.encode("The Zebra, dog")[1:3] == [UNK, UNK]
    assert processor.tokens("The Zebra, dog") == ["the", "Zebra", ",", "dog"]


@pytest.mark.parametrize("level", LEVELS)
def test_dict_of_json_types_gives_an_equal_processor(level):
    processor = TextProcessor.train(SENTENCES, level, lowercase=True)
    again = TextProcessor.from_dict(json.loads(json.dumps(processor.to_dict())))
    assert again == processor
    assert again.to_dict() == processor.to_dict()
    assert again.encode_batch(SENTENCES) == processor.encode_batch(SENTENCES)
    other = TextProcessor.train(SENTENCES[:3], level, lowercase=True, vocab_size=270)
    assert other != processor


@pytest.mark.parametrize("level", LEVELS)
def test_transformers_opens_the_file_and_gives_the_same_ids(level, tmp_path):
    transformers = pytest.importorskip("transformers")
    processor = TextProcessor.train(SENTENCES, level, lowercase=True)
    path = tmp_path / "tokenizer.json"
    path.write_text(processor.tokenizer_json(), encoding="utf-8", newline="")
    opened = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
    for text in [*SENTENCES, *NASTY[:-1], "never seen 漢"]:
        assert opened(text, add_special_tokens=False)["input_ids"] == processor.encode(text)


def test_a_given_list_of_tokens_keeps_its_order():
    processor = TextProcessor.from_tokens(["b", "<pad>", "a", "b"], "words")
    assert processor.tokens_by_id == (*SPECIAL_TOKENS, "b", "a")
    assert processor.token_to_id("a") == 5
    assert processor.token_to_id("z") == UNK


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": "word"}, "Did you mean 'words'"),
        ({"level": "foreign"}, "choose one of characters, words, bpe"),
        ({"level": "words", "min_frequency": 0}, "min_frequency"),
        ({"level": "bpe", "vocab_size": 259}, "at least 260"),
        ({"level": "words", "vocab_size": 4}, "at least 5"),
    ],
)
def test_options_that_cannot_be_used_are_named(options, words):
    with pytest.raises(OptionError, match=words):
        TextProcessor.train(["a"], **options)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_text_is_an_error(level, texts):
    with pytest.raises(DataError, match="no text"):
        TextProcessor.train(texts, level)


@pytest.mark.parametrize("bad", ["\ud800", None, 3, ["a"]])
def test_what_is_no_text_is_a_data_error(bad):
    processor = TextProcessor.train(["a"], "characters")
    with pytest.raises(DataError, match="valid Unicode"):
        processor.encode(bad)


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer": "{"},
        {"tokenizer": None},
        {"level": "sentences"},
        {"lowercase": "yes"},
        {"tokenizer": '{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}'},
        {
            "tokenizer": '{"model": {"type": "WordLevel", "unk_token": "a",'
            ' "vocab": {"a": 0, "b": 1, "c": 2, "d": 3}}}'
        },
    ],
)
def test_damaged_dicts_are_refused_in_one_line(change):
    values = {**TextProcessor.train(["a"], "words").to_dict(), **change}
    with pytest.raises(CheckpointError) as caught:
        TextProcessor.from_dict(values)
    assert "\n" not in str(caught.value)


def test_byte_pairs_read_as_text():
    processor = TextProcessor.train(["ein Mann schläft"] * 3, "bpe", vocab_size=290)
    pieces = processor.pieces("ein Mann schläft 😀")
    assert "".join(pieces[:3]).startswith("ein Mann")
    assert " Mann" in pieces
    assert "ä" in "".join(pieces)
    assert pieces[-1] == "�"  # the last of the four bytes of a sign that was not seen
    everything = processor.readable()
    assert everything[:4] == list(SPECIAL_TOKENS)
    assert "Ġ" not in "".join(everything[260:])
    assert processor.tokens("ein Mann")[1] == "ĠMann"  # as the tokenizer names it


@pytest.mark.parametrize("level", ["characters", "words"])
def test_other_tokens_read_as_they_stand(level):
    processor = TextProcessor.train(["a b Ġ"], level)
    assert processor.readable() == list(processor.tokens_by_id)
    assert processor.pieces("a ĠZ") == processor.tokens("a ĠZ")
    with pytest.raises(IndexError, match="No token has the id 99"):
        processor.as_text(99)
