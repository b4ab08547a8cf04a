import json

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from dlarch.errors import CheckpointError
from dlarch.processing import TextProcessor
from dlarch.spec import BOS, EOS, PAD, SPECIAL_TOKENS, UNK

TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "the five boxing wizards jump quickly over a dozen foxes",
] * 10
UNSEEN = ["a quick wizard", "zzz the fox", "dog foxes over over"]


def word_piece() -> Tokenizer:
    """As BERT: [PAD] first, [CLS] and [SEP] put around by the tokenizer itself."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[MASK]", "[SEP]", "[UNK]", "[CLS]", "[PAD]"]
    tokenizer.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=80, special_tokens=special, show_progress=False)
    )
    ids = [("[SEP]", tokenizer.token_to_id("[SEP]")), ("[CLS]", tokenizer.token_to_id("[CLS]"))]
    tokenizer.post_processor = processors.BertProcessing(*ids)
    tokenizer.enable_padding()
    tokenizer.enable_truncation(5)
    return tokenizer


def byte_bpe() -> Tokenizer:
    """As GPT-2: no unknown token, one special token at the end."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.add_tokens([AddedToken("foxes")])
    return tokenizer


def unigram() -> Tokenizer:
    """As T5: <pad>, </s> and <unk> in the list of pieces."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.UnigramTrainer(
            vocab_size=60,
            special_tokens=["</s>", "<pad>", "<unk>"],
            unk_token="<unk>",
            show_progress=False,
        ),
    )
    return tokenizer


def word_level() -> Tokenizer:
    """Words at spaces; `<s>` in the text would be found in the vocabulary."""
    words = ["the", "oov", "fox", "<s>", "over", "</s>", "quick"]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="oov")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@pytest.mark.parametrize("make", [word_piece, byte_bpe, unigram, word_level])
def test_a_foreign_tokenizer_gives_the_same_tokens_with_our_special_ids(make, tmp_path):
    path = tmp_path / "tokenizer.json"
    make().save(str(path))
    original = Tokenizer.from_file(str(path))  # training WordPiece anew may differ
    original.no_padding()
    original.no_truncation()
    processor = TextProcessor.from_tokenizer_file(path)
    assert processor.tokens_by_id[:4] == SPECIAL_TOKENS
    assert len(set(processor.tokens_by_id)) == processor.vocab_size
    assert set(original.get_vocab()) - set(processor.tokens_by_id) <= {
        *("[SEP]", "[UNK]", "[CLS]", "[PAD]", "</s>", "<s>", "oov", "<|endoftext|>")
    }
    for text in TEXTS[:2] + UNSEEN:
        encoding = original.encode(text, add_special_tokens=False)
        unknown = {"[UNK]", "<unk>", "oov"}
        expected = ["<unk>" if token in unknown else token for token in encoding.tokens]
        ids = processor.encode(text)
        assert [processor.id_to_token(index) for index in ids] == expected
        known = [
            index for index, token in zip(encoding.ids, expected, strict=True) if token != "<unk>"
        ]
        assert processor.decode(ids) == original.decode(known)
    one_by_one = [processor.encode(text) for text in TEXTS + UNSEEN]
    assert processor.encode_batch(TEXTS + UNSEEN) == one_by_one  # no padding, no cutting
    again = TextProcessor.from_dict(json.loads(json.dumps(processor.to_dict())))
    assert again.encode_batch(TEXTS + UNSEEN) == processor.encode_batch(TEXTS + UNSEEN)


@pytest.mark.parametrize("make", [word_piece, byte_bpe, unigram, word_level])
def test_special_looking_text_never_becomes_a_special_id(make, tmp_path):
    path = tmp_path / "tokenizer.json"
    make().save(str(path))
    processor = TextProcessor.from_tokenizer_file(path)
    looks = "[PAD] <pad> [CLS] <s> <bos> [SEP] </s> <eos> <|endoftext|>"
    assert not {PAD, BOS, EOS} & set(processor.encode(looks))


def test_the_unknown_token_of_the_model_is_ours_whatever_its_name(tmp_path):
    path = tmp_path / "tokenizer.json"
    word_level().save(str(path))
    processor = TextProcessor.from_tokenizer_file(path)
    assert processor.tokens_by_id == (*SPECIAL_TOKENS, "the", "fox", "over", "quick")
    assert processor.encode("the zebra over") == [4, UNK, 6]


def test_an_unknown_token_that_the_vocabulary_lacks_is_added(tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(path))
    assert TextProcessor.from_tokenizer_file(path).encode("a b") == [4, UNK]


def test_the_unknown_piece_of_a_unigram_model_is_ours(tmp_path):
    path = tmp_path / "tokenizer.json"
    unigram().save(str(path))
    processor = TextProcessor.from_tokenizer_file(path)
    model = json.loads(processor.tokenizer_json())["model"]
    assert model["unk_id"] == UNK


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"model": {"type": "Magic"}}',
        '{"version": "1.0", "model": null}',
        "\xff",
    ],
)
def test_a_broken_file_is_one_clear_sentence(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError) as caught:
        TextProcessor.from_tokenizer_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing\.json does not exist"):
        TextProcessor.from_tokenizer_file(tmp_path / "nothing.json")
