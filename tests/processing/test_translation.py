import json
import multiprocessing
import pickle

import pytest
import torch

from dlarch.errors import CheckpointError, DataError
from dlarch.processing import (
    TextProcessor,
    TranslationProcessor,
    load_processor,
    processor_from_dict,
)
from dlarch.processing.base import Processor
from dlarch.spec import BOS, EOS, PAD

PAIRS = [("ab", "xyz"), ("abc", "z"), ("", "yx")]


@pytest.fixture
def processor() -> TranslationProcessor:
    source = TextProcessor.train((source for source, _ in PAIRS), "characters")
    target = TextProcessor.train((target for _, target in PAIRS), "characters")
    return TranslationProcessor(source, target, "de", "en")


@pytest.fixture
def joint() -> TranslationProcessor:
    both = TextProcessor.train(["ab xyz", "c"], "bpe")
    return TranslationProcessor(both, both, "de", "en")


def test_pairs_become_a_padded_batch(processor):
    batch = processor.encode(PAIRS)
    a, b, c = (processor.source.token_to_id(token) for token in "abc")
    x, y, z = (processor.target.token_to_id(token) for token in "xyz")
    assert batch.source.tolist() == [
        [a, b, EOS, PAD],
        [a, b, c, EOS],
        [EOS, PAD, PAD, PAD],
    ]
    assert batch.target.tolist() == [
        [BOS, x, y, z, EOS],
        [BOS, z, EOS, PAD, PAD],
        [BOS, y, x, EOS, PAD],
    ]
    assert batch.source.dtype == batch.target.dtype == torch.long
    assert batch.source_text == ["ab", "abc", ""]
    assert batch.target_text == ["xyz", "z", "yx"]
    assert processor.decode(batch.target) == ["xyz", "z", "yx"]


def test_sources_alone_get_targets_of_one_bos(processor):
    batch = processor.encode(["ab", "c"])
    assert batch.target.tolist() == [[BOS], [BOS]]
    assert batch.target_text is None
    assert batch.source.shape == (2, 3)


def test_no_sentences_are_an_empty_batch(processor):
    batch = processor.encode([])
    assert batch.source.shape == (0, 0)
    assert processor.decode(batch.target) == []


@pytest.mark.parametrize(
    "raw", ["ab", ["ab", ("a", "x")], [("a", "x", "y")], [None], [("a", None)]]
)
def test_other_input_is_refused(processor, raw):
    with pytest.raises(DataError):
        processor.encode(raw)


def test_unknown_shares_are_counted_per_side(processor):
    pairs = [("ab?", "x"), ("!", "xyz!")] * 1500
    assert processor.unknown_share(iter(pairs)) == (2 / 4, 1 / 5)
    assert processor.unknown_share([]) == (0.0, 0.0)


@pytest.mark.parametrize("name", ["processor", "joint"])
def test_dict_folder_and_pickle_give_an_equal_processor(name, request, tmp_path):
    processor = request.getfixturevalue(name)
    processor.save(tmp_path)
    for again in (
        processor_from_dict(json.loads(json.dumps(processor.to_dict()))),
        TranslationProcessor.load(tmp_path),
        load_processor(tmp_path),
        pickle.loads(pickle.dumps(processor)),
    ):
        assert isinstance(again, TranslationProcessor)
        assert again == processor
        assert again.hash() == processor.hash()
        assert again.share is processor.share is (name == "joint")
        assert (again.source_language, again.target_language) == ("de", "en")
        assert torch.equal(again.encode(PAIRS).target, processor.encode(PAIRS).target)


def test_the_folder_holds_the_tokenizers_own_files(processor, tmp_path):
    processor.save(tmp_path)
    for side in ("source", "target"):
        content = (tmp_path / side / "tokenizer.json").read_text(encoding="utf-8")
        assert content == getattr(processor, side).tokenizer_json()
    assert "tokenizer" not in json.loads((tmp_path / "processor.json").read_text())["source"]


def test_the_hash_is_of_the_content(processor):
    twin = TranslationProcessor.from_dict(processor.to_dict())
    assert twin.hash() == processor.hash()
    assert len(processor.hash()) == 64
    turned = TranslationProcessor(processor.target, processor.source, "de", "en")
    renamed = TranslationProcessor(processor.source, processor.target, "de", "fr")
    assert len({processor.hash(), turned.hash(), renamed.hash()}) == 3


def test_a_processor_survives_spawn(processor):
    """Work is a method of the package's: a worker need not be able to import this file."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(processor.to_dict) == processor.to_dict()
        rows = pool.apply(processor.source.encode_batch, (["abc", "b"],))
    assert rows == processor.source.encode_batch(["abc", "b"])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("processor.json", None),
        ("processor.json", "{"),
        ("processor.json", "[]"),
        ("processor.json", '{"type": "translations"}'),
        ("processor.json", '{"type": "translation"}'),
        ("source/tokenizer.json", None),
        ("target/tokenizer.json", "{"),
        ("target/tokenizer.json", ""),
    ],
)
def test_a_damaged_folder_is_refused_with_the_name_of_the_file(processor, tmp_path, file, content):
    processor.save(tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        TranslationProcessor.load(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert (tmp_path / file).name in message


@pytest.mark.parametrize("version", [2, "new", None])
def test_a_newer_format_is_refused(processor, version):
    with pytest.raises(CheckpointError, match="reads up to 1"):
        processor_from_dict({**processor.to_dict(), "format": version})


def test_another_type_is_refused_and_a_new_one_is_found(processor, tmp_path):
    class Sizes(Processor, type="test_sizes"):
        def encode(self, raw):
            return raw

        def decode(self, tensor):
            return tensor

        def to_dict(self):
            return {"type": self.type, "format": 1}

        @classmethod
        def from_dict(cls, values):
            return cls()

    Sizes().save(tmp_path)
    assert isinstance(load_processor(tmp_path), Sizes)
    with pytest.raises(CheckpointError, match="of type 'test_sizes', not TranslationProcessor"):
        TranslationProcessor.load(tmp_path)
    with pytest.raises(CheckpointError, match="Did you mean 'translation'"):
        processor_from_dict({**processor.to_dict(), "type": "translatoin"})
