"""Sequences of numbers and texts to remember: what they say, and what guessing scores on them."""

import numpy as np
import pytest
import torch

import dlarch
from dlarch.errors import DataError, MismatchError, OptionError
from dlarch.processing import SequenceProcessor


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(tmp_path / "cache"))


def ready(name, **options):
    data = dlarch.create_data(name, **options)
    data.prepare_data()
    data.setup()
    return data


def whole(data, split="train"):
    examples = data.dataset(split)
    return examples[np.arange(len(examples))]


def test_adding_marks_one_number_in_each_half_and_asks_for_their_sum():
    batch = whole(ready("adding", length=9, train_size=500))
    values, markers = batch.sequence.unbind(-1)
    assert batch.sequence.shape == (500, 9, 2)
    assert markers[:, :4].sum(1).eq(1).all()
    assert markers[:, 4:].sum(1).eq(1).all()
    assert markers.sum(0).gt(0).all()  # each place is marked somewhere
    assert 0 <= values.min() < 0.01 < 0.99 < values.max() <= 1
    wanted = torch.stack([row[mark == 1].sum() for row, mark in zip(values, markers, strict=True)])
    torch.testing.assert_close(batch.target[:, 0], wanted)


def test_always_saying_one_has_an_error_of_a_sixth():
    """The variance of a sum of two numbers uniform between 0 and 1 is 2/12."""
    target = whole(ready("adding", length=5, train_size=50_000)).target.double()
    deviation = (7 / 180 / 50_000) ** 0.5  # the fourth central moment is 1/15, less (1/6) squared
    assert ((target - 1) ** 2).mean().item() == pytest.approx(1 / 6, abs=5 * deviation)


def test_waves_are_sines_whose_next_value_is_the_target():
    batch = whole(ready("sine", noise=0.0, length=60, train_size=200))
    values = batch.sequence[..., 0].double()
    torch.testing.assert_close(batch.target[:, :-1], batch.sequence[:, 1:])
    # A sine is where x(t + 1) + x(t - 1) is a multiple of x(t): twice the cosine of its angle.
    middle, around = values[:, 1:-1], values[:, 2:] + values[:, :-2]
    twice = (middle * around).sum(1) / middle.square().sum(1)
    torch.testing.assert_close(around, twice[:, None] * middle, atol=1e-5, rtol=0)
    periods = 2 * np.pi / torch.arccos(twice / 2)
    assert 20 <= periods.min() < 21
    assert 46 < periods.max() <= 50.001
    assert values.abs().max() <= 1


def test_always_saying_nothing_of_a_wave_has_an_error_of_half_its_amplitude():
    """The mean square of a sine is 1/2; that of noise is its variance."""
    batch = whole(ready("sine", noise=0.5, train_size=4000))
    assert batch.target.square().mean().item() == pytest.approx(0.5 + 0.25, abs=0.01)


def test_waves_to_be_continued_are_longer_than_those_to_learn_from():
    data = ready("sine", length=30, eval_length=80, train_size=10, eval_size=4)
    shapes = [whole(data, split).sequence.shape for split in ("train", "validation", "test")]
    assert shapes == [(10, 30, 1), (4, 80, 1), (4, 80, 1)]


@pytest.mark.parametrize("name", ["sine", "adding"])
def test_splits_are_the_same_again_and_differ_among_themselves(name):
    sizes = {"train_size": 20, "eval_size": 20, "length": 20}
    sizes |= {"eval_length": 20} if name == "sine" else {}
    one, again, other = (ready(name, **sizes, generator_seed=seed) for seed in (0, 0, 1))
    for split in ("train", "validation", "test"):
        assert torch.equal(whole(one, split).sequence, whole(again, split).sequence)
        assert not torch.equal(whole(one, split).sequence, whole(other, split).sequence)
    assert one.spec == again.spec != other.spec
    assert not torch.equal(whole(one).sequence, whole(one, "test").sequence)


def test_recall_asks_for_the_first_letter_among_distractors():
    data = ready("recall", length=30, symbols=5, distractors=3, train_size=100, eval_size=50)
    assert data.processor.class_names == list("ABCDE")
    batch = whole(data, "test")
    assert [data.processor.class_names[label] for label in batch.label] == [
        text[0] for text in batch.text
    ]
    assert all(len(text) == 30 and set(text[1:]) <= set("abc") for text in batch.text)
    assert set("".join(text[1:] for text in batch.text)) == set("abc")
    assert batch.label.bincount().tolist() == [10] * 5  # so guessing is right in one of five
    assert data.processor.decode(batch.tokens) == batch.text
    again = whole(ready("recall", length=30, symbols=5, distractors=3, train_size=100,
                        eval_size=50), "test")  # fmt: skip
    assert again.text == batch.text != whole(data, "validation").text


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("adding", {"length": 1}, "at least 2"),
        ("adding", {"train_size": 0}, "train_size must be at least 1"),
        ("sine", {"noise": -1.0}, "noise"),
        ("sine", {"min_period": 2.0}, "longer than 2 steps"),
        ("sine", {"min_period": 60.0}, "min_period=60"),
        ("recall", {"symbols": 27}, "26 letters"),
        ("recall", {"symbols": 26, "eval_size": 10}, "52"),
    ],
)
def test_what_cannot_be_drawn_is_refused(name, options, words):
    with pytest.raises(OptionError, match=words):
        ready(name, **options)


def test_a_model_of_other_numbers_is_refused():
    with pytest.raises(MismatchError, match="value, marker"):
        ready("adding", train_size=10, processor=ready("sine", train_size=10).processor)


def test_sequences_of_ones_own_are_read():
    processor = ready("sine", train_size=10).processor
    assert isinstance(processor, SequenceProcessor)
    batch = processor.encode([[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]])
    assert batch.sequence.tolist() == [[[0.0], [0.5], [1.0]], [[1.0], [0.5], [0.0]]]
    assert batch.target.isnan().all()
    for wrong, words in (
        ([], "no sequence"),
        ([[0.0], [0.0, 1.0]], "Sequence 2 has 2 steps and the first 1"),
        ([[[0.0, 1.0]]], r"the shape \(1, 2\): at each of its steps there must be 1 number"),
    ):
        with pytest.raises(DataError, match=words):
            processor.encode(wrong)
