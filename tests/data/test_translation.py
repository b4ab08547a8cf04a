"""The translation data module: batches, vocabularies, the cache, the place in an epoch."""

import os
import pickle

import numpy as np
import pytest
import torch

from dlarch import create_data
from dlarch.batches import TranslationBatch
from dlarch.data.loading import BatchLoader
from dlarch.data.translation import TranslationData
from dlarch.errors import DataError, MismatchError, OptionError
from dlarch.spec import BOS, EOS, PAD, UNK

WORDS = ["red", "blue", "green", "big", "small", "old"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tsv(tmp_path):
    """400 pairs of one to nine words, the target backwards in capitals."""
    draw = np.random.default_rng(0)
    lines = []
    for i in range(400):
        words = [*draw.choice(WORDS, draw.integers(0, 9)), f"{i:03}"]
        lines.append(f"{' '.join(words)}\t{' '.join(words[::-1]).upper()}\n")
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def opened(source="copy", **options) -> TranslationData:
    size = {} if "train_size" in options or str(source).endswith(".tsv") else {"train_size": 50}
    data = create_data("translation", source=str(source), **size | options)
    data.prepare_data()
    data.setup()
    return data


def rows(batches):
    return [row for batch in batches for row in batch.example.tolist()]


@pytest.mark.parametrize("source", ["dates", "addition", "copy", "reverse"])
def test_batches_of_generated_pairs_read_as_they_were_written(source):
    data = opened(source)
    batch = next(iter(data.val_dataloader()))
    assert isinstance(batch, TranslationBatch)
    for side, texts, processor in (
        (batch.source, batch.source_text, data.processor.source),
        (batch.target, batch.target_text, data.processor.target),
    ):
        assert [processor.decode(row) for row in side.tolist()] == texts
        last = (side != PAD).sum(1, keepdim=True) - 1
        assert side.gather(1, last).eq(EOS).all()
    assert batch.target[:, 0].eq(BOS).all()
    assert batch.source[:, 0].ne(BOS).all()
    assert data.spec.source_vocab_size == data.processor.source.vocab_size > batch.source.max()
    assert data.spec.target_vocab_size == data.processor.target.vocab_size > batch.target.max()
    assert len(data.dataset("train")) == 50
    train = next(iter(data.train_dataloader()))
    assert train.source_text is None  # memory is not spent on texts that nobody compares with


def test_files_are_read_as_lower_cased_words_that_occur_twice(tsv):
    data = opened(tsv)
    batch = next(iter(data.val_dataloader()))
    found = data.processor.source.decode(batch.source[-1].tolist())
    written = batch.source_text[-1]
    assert (batch.source[-1] == UNK).sum() == 1  # the number occurs in no other pair
    assert found == " ".join(written.split()[:-1])
    assert data.spec.source_vocab_size == 4 + len(WORDS)
    characters = opened(tsv, tokens="characters", lowercase=True)
    assert (
        characters.processor.target.decode(
            next(iter(characters.val_dataloader())).target[0].tolist()
        )
        == next(iter(characters.val_dataloader())).target_text[0].lower()
    )


def test_a_shared_vocabulary_is_one(tsv):
    data = opened(tsv, share_vocabulary=True, lowercase=False)
    assert data.processor.source is data.processor.target
    ids = [data.processor.source.encode(word)[0] for word in ("red", "RED")]
    assert UNK not in ids
    assert len(set(ids)) == 2


def test_a_shared_vocabulary_of_byte_pairs_knows_the_words_of_both_sides(tsv):
    options = {"tokens": "bpe", "lowercase": False}
    shared = opened(tsv, share_vocabulary=True, **options).processor
    assert shared.source is shared.target
    apart = opened(tsv, **options).processor
    # Capitals are in the target alone, small letters in the source alone.
    for word, known, unknown in ((" red", "source", "target"), (" RED", "target", "source")):
        assert len(shared.source.encode(word)) == len(getattr(apart, known).encode(word)) == 1
        assert len(getattr(apart, unknown).encode(word)) > 1
        assert shared.source.decode(shared.target.encode(word)) == word


def test_a_tokenizer_of_ones_own_is_used(tsv, tmp_path):
    opened(tsv, tokens="characters").processor.save(tmp_path / "mine")
    own = tmp_path / "mine" / "source" / "tokenizer.json"
    data = opened(tsv, source_tokenizer=str(own))
    batch = next(iter(data.val_dataloader()))
    assert (batch.source != PAD).sum(1)[0] == len(batch.source_text[0]) + 1
    with pytest.raises(DataError, match="not a readable tokenizer"):
        opened(tsv, source_tokenizer=str(tmp_path / "none.json"))


# ---- plans


@pytest.mark.parametrize("bound", [{"batch_size": 16}, {"batch_tokens": 90}])
def test_every_example_comes_once_per_epoch_in_another_order(tsv, bound):
    data = opened(tsv, **bound)
    size = len(data.dataset("train"))
    loader = data.train_dataloader()
    first, second = rows(loader), rows(loader)
    assert sorted(first) == sorted(second) == list(range(size))
    assert first != second
    for split, evaluation in (("validation", data.val_dataloader), ("test", data.test_dataloader)):
        assert sorted(rows(evaluation())) == list(range(len(data.dataset(split))))
        assert rows(evaluation()) == rows(evaluation())


def test_batch_tokens_bounds_sentences_times_longest_side(tsv):
    data = opened(tsv, batch_tokens=90)
    sizes = []
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for batch in loader:
            sizes.append(len(batch.source) * max(batch.source.shape[1], batch.target.shape[1]))
    assert max(sizes) <= 90
    assert np.mean(sizes) > 70
    with pytest.raises(OptionError, match=r"batch_tokens=5 is less than the longest example"):
        opened(tsv, batch_tokens=5).train_dataloader()


def test_batches_hold_sentences_of_similar_length(tsv):
    data = opened(tsv, batch_size=16)
    real = padded = 0
    for batch in data.train_dataloader():
        real += int(batch.target_mask.sum())
        padded += batch.target.numel()
    assert real / padded > 0.9


def test_longer_pairs_are_left_out_of_training_alone(tsv):
    whole, short = opened(tsv), opened(tsv, max_length=5)
    assert short.dataset("train").source.lengths.max() == 6  # EOS is not counted
    assert len(short.dataset("train")) == (whole.dataset("train").source.lengths <= 6).sum()
    assert len(short.dataset("validation")) == len(whole.dataset("validation"))
    with pytest.raises(OptionError, match="max_length must be at least 1"):
        opened(tsv, max_length=0)


# ---- the cache


def test_a_second_build_reads_the_cache(tsv, cache):
    first = opened(tsv)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.suffix != ".lock"}
    tsv.rename(tsv.with_name("moved.tsv"))
    second = opened(tsv.with_name("moved.tsv"))
    after = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.suffix != ".lock"}
    assert after == before
    assert second.spec == first.spec
    for split in ("train", "validation", "test"):
        index = np.arange(len(first.dataset(split)))
        one, other = first.dataset(split)[index], second.dataset(split)[index]
        assert torch.equal(one.source, other.source)
        assert torch.equal(one.target, other.target)
        assert one.source_text == other.source_text


def test_a_truncated_cache_is_built_anew(tsv, cache, caplog):
    index = np.arange(300)
    before = opened(tsv).dataset("train")[index]
    path = next(cache.rglob("train.source.tokens.uint16"))
    os.truncate(path, path.stat().st_size // 2)
    again = opened(tsv).dataset("train")[index]
    assert "building it anew" in caplog.text
    assert torch.equal(before.source, again.source)


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": "characters"},
        {"lowercase": False},
        {"min_frequency": 1},
        {"max_vocab_size": 7},
        {"share_vocabulary": True},
        {"max_length": 4},
        {"train_size": 20},
        {"source_language": "en", "target_language": "fr"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_makes_a_cache_of_its_own(tsv, cache, change):
    opened(tsv)
    opened(tsv, **change)
    assert len(list(cache.rglob("manifest.json"))) == 2


# ---- a trained model's processor


def test_the_processor_of_a_model_keeps_its_ids_and_tells_what_is_unknown(tsv, tmp_path, caplog):
    mine = opened(tsv).processor
    other = tmp_path / "other.tsv"
    other.write_text("".join(f"red thing {i}\tBLUE {i}\n" for i in range(200)), encoding="utf-8")
    with caplog.at_level("INFO", logger="dlarch"):
        data = opened(other, processor=mine)
    assert data.processor is mine
    assert data.spec.source_vocab_size == mine.source.vocab_size
    batch = next(iter(data.val_dataloader()))
    red = mine.source.encode("red")[0]
    assert batch.source[:, :3].tolist() == [[red, UNK, UNK]] * len(batch.source)
    assert "66.7 % of source and 50.0 % of target tokens" in caplog.text
    data.setup("test")  # Lightning calls it for each stage
    assert data.processor is mine


def test_a_processor_that_does_not_fit_is_refused(tsv):
    mine = opened(tsv).processor
    with pytest.raises(MismatchError, match="translates fr to en, the data are en to fr"):
        opened(tsv, processor=mine, source_language="en", target_language="fr")
    with pytest.raises(MismatchError, match="brings its own vocabulary"):
        opened(tsv, processor=mine, source_tokenizer="tokenizer.json")


def test_setup_twice_keeps_the_vocabulary(tsv):
    data = opened(tsv)
    before = data.processor.hash()
    data.setup("test")
    assert data.processor.hash() == before


# ---- workers, and a run that goes on


def test_a_dataset_pickles_as_its_path(tsv):
    split = opened(tsv).dataset("validation")
    pickled = pickle.dumps(split)
    assert len(pickled) < 2000
    index = np.arange(4)
    assert torch.equal(pickle.loads(pickled)[index].source, split[index].source)


@pytest.mark.slow
def test_spawned_workers_give_the_same_batches(tsv):
    data = opened(tsv, batch_size=64)
    plan = data.evaluation_plan("validation")
    here, there = (
        list(
            BatchLoader(
                data.dataset("validation"),
                lambda _: plan,
                training=False,
                num_workers=workers,
                multiprocessing_context="spawn" if workers else None,
            )
        )
        for workers in (0, 1)
    )
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.source, other.source)
        assert one.target_text == other.target_text


def test_a_resumed_loader_gives_the_rest_of_the_epoch_and_the_next(tsv):
    torch.manual_seed(5)
    data = opened(tsv, batch_size=32)
    whole = data.train_dataloader()
    expected = [batch.example.tolist() for _ in range(2) for batch in whole]
    data = opened(tsv, batch_size=32)
    loader = iter(data.train_dataloader())
    seen = [next(loader).example.tolist() for _ in range(4)]
    state = data.state_dict()
    torch.manual_seed(6)
    data = opened(tsv, batch_size=32)
    data.load_state_dict(state)
    loader = data.train_dataloader()
    seen += [batch.example.tolist() for _ in range(2) for batch in loader]
    assert seen == expected


def test_loaders_leave_the_global_random_state_alone(tsv):
    data = opened(tsv)
    before = torch.get_rng_state()
    rows(data.train_dataloader()), rows(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("option", ["batch_size", "batch_tokens"])
def test_an_empty_batch_is_refused(option):
    with pytest.raises(OptionError, match=f"{option} must be at least 1, not 0"):
        create_data("translation", **{option: 0})


def test_too_few_pairs_are_refused(tmp_path):
    path = tmp_path / "few.tsv"
    path.write_text("a\tb\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"no (validation|train) pairs: give more pairs"):
        opened(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "copy", "digits": 9}, "digits are those of the operands of addition"),
        ({"source_tokenizer": "a.json", "target_tokenizer": "b.json", "tokens": "bpe"},
         "leave out tokens and lowercase"),
        ({"source": "copy", "test_all": True}, "no test_all"),
    ],
)  # fmt: skip
def test_options_that_would_be_ignored_are_refused(options, words):
    with pytest.raises(OptionError, match=words):
        TranslationData(**options).prepare_data()
