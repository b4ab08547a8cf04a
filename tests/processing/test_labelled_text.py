import pytest
import torch

from dlarch.errors import DataError, OptionError
from dlarch.processing import (
    LabelledTextProcessor,
    TextProcessor,
    load_processor,
    processor_from_dict,
)
from dlarch.spec import BOS, EOS, PAD, UNK

CLASSES = ["good", "bad"]


def make(**options):
    return LabelledTextProcessor(
        TextProcessor.from_tokens("abcdef", "characters"), CLASSES, "mood", **options
    )


def ids(text, processor):
    return [processor.tokens.token_to_id(letter) for letter in text]


def test_texts_become_a_padded_batch():
    processor = make()
    batch = processor.encode([("ab", "bad"), ("cxa", "good")])
    a, b, c = ids("abc", processor)
    assert batch.tokens.tolist() == [[BOS, a, b, EOS, PAD], [BOS, c, UNK, a, EOS]]
    assert batch.mask.sum(1).tolist() == [4, 5]
    assert batch.label.tolist() == [1, 0]
    assert batch.text == ["ab", "cxa"]
    assert processor.decode(batch.tokens) == ["ab", "ca"]
    assert processor.encode(["ab"]).label is None
    assert processor.unknown_share(["ab", "xx"]) == 0.5


@pytest.mark.parametrize(
    ("keep", "most", "left"),
    [("first", 3, "abc"), ("last", 3, "def"), ("both", 3, "abf"), ("both", 4, "abef")],
)
def test_a_long_text_is_cut_where_it_was_asked_for(keep, most, left):
    processor = make(max_length=most, keep=keep)
    assert processor.encode(["abcdef"]).tokens[0].tolist() == [BOS, *ids(left, processor), EOS]
    assert processor.encode(["ab"]).tokens[0].tolist() == [BOS, *ids("ab", processor), EOS]


def test_one_token_of_both_ends_is_the_first():
    processor = make(max_length=1, keep="both")
    assert processor.encode(["abcdef"]).tokens[0].tolist() == [BOS, *ids("a", processor), EOS]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("ab", "a list of texts, not one text"),
        (["ab", " "], "Text 2 is empty"),
        ([("ab", "goof")], r"no class 'goof', only good, bad. Did you mean 'good'\?"),
    ],
)
def test_what_cannot_be_encoded_is_refused(raw, said):
    with pytest.raises(DataError, match=said):
        make().encode(raw)


def test_an_unknown_end_is_refused():
    with pytest.raises(OptionError, match="first, last or both, not 'middle'"):
        make(keep="middle")


def test_it_is_stored_whole(tmp_path):
    processor = make(max_length=4, keep="both", longest=9)
    processor.save(tmp_path)
    for again in (load_processor(tmp_path), processor_from_dict(processor.to_dict())):
        assert again == processor
        assert torch.equal(again.encode(["abcdef"]).tokens, processor.encode(["abcdef"]).tokens)
        assert (again.class_names, again.label_name, again.longest) == (CLASSES, "mood", 9)
    assert '"tokenizer"' not in (tmp_path / "processor.json").read_text()
