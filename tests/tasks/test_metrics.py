"""Sums over an epoch: sacreBLEU is the reference for BLEU."""

import random

import pytest
import sacrebleu
import torch

from dlarch.tasks.metrics import ActiveUnits, CorpusBleu, Ratio, edit_distance

WORDS = ["the", "a", "cat", "dog", "sits", "runs", "on", "under", "Mat", "tree", ",", "."]


def corpus(size: int, noise: float, seed: int) -> tuple[list[str], list[str]]:
    """References, and hypotheses with that share of their words replaced."""
    draw = random.Random(seed)
    references = [
        " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 12))) for _ in range(size)
    ]
    hypotheses = [
        " ".join(draw.choice(WORDS) if draw.random() < noise else word for word in text.split())
        for text in references
    ]
    return hypotheses, references


@pytest.mark.parametrize("options", [{}, {"tokenize": "none", "lowercase": True}])
@pytest.mark.parametrize("noise", [0.0, 0.3, 0.9])
def test_bleu_is_sacrebleus_on_the_whole_corpus_however_it_is_batched(options, noise):
    hypotheses, references = corpus(60, noise, seed=1)
    expected = sacrebleu.corpus_bleu(hypotheses, [references], force=True, **options).score
    for size in (1, 7, 60):
        metric = CorpusBleu(**options)
        for at in range(0, 60, size):
            metric.update(hypotheses[at : at + size], references[at : at + size])
        assert metric.compute().item() == pytest.approx(expected, abs=1e-4)


def test_bleu_without_any_match_of_four_is_smoothed_as_sacrebleu_does():
    hypotheses, references = ["the cat sits there"], ["the cat runs here"]
    metric = CorpusBleu()
    metric.update(hypotheses, references)
    expected = sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert expected > 1
    assert metric.compute().item() == pytest.approx(expected, abs=1e-4)


def test_an_empty_translation_and_an_empty_batch_are_no_obstacle():
    metric = CorpusBleu()
    metric.update([], [])
    metric.update(["", "the cat sits on the mat"], ["a dog", "the cat sits on the mat"])
    expected = sacrebleu.corpus_bleu(
        ["", "the cat sits on the mat"], [["a dog", "the cat sits on the mat"]]
    ).score
    assert metric.compute().item() == pytest.approx(expected, abs=1e-4)


def test_the_signature_is_known_before_anything_was_counted():
    assert CorpusBleu().signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|")


def test_the_signature_says_how_it_was_counted():
    metric = CorpusBleu(tokenize="none", lowercase=True)
    metric.update(["a"], ["a"])
    assert "tok:none" in metric.signature
    assert "case:lc" in metric.signature
    assert "smooth:exp" in metric.signature


def test_a_ratio_divides_the_sums_not_the_parts():
    ratio, exponential = Ratio(), Ratio(exponential=True)
    for total, count in ((6.0, 2), (1.0, 8)):
        ratio.update(total, count)
        exponential.update(total, count)
    assert ratio.compute().item() == pytest.approx(0.7)
    assert exponential.compute().item() == pytest.approx(2.01375, abs=1e-5)
    assert Ratio().compute().isnan()


def by_recursion(one, other):
    """The definition."""
    if not one or not other:
        return len(one) + len(other)
    changed = by_recursion(one[1:], other[1:]) + (one[0] != other[0])
    return min(changed, by_recursion(one[1:], other) + 1, by_recursion(one, other[1:]) + 1)


def test_the_edit_distance_is_levenshteins():
    draw = random.Random(0)
    texts = ["".join(draw.choices("ab ", k=size)) for size in (0, 1, 2, 3, 4, 5, 5, 6)]
    for one in texts:
        for other in texts:
            assert edit_distance(one, other) == by_recursion(one, other)
    long = "a clause that is left out of the translation, more than a few letters "
    assert edit_distance("and the rest of it", long + "and the rest of it") == len(long)


def test_active_units_are_dimensions_whose_mean_varies():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(1000, 5, generator=generator)
    means *= torch.tensor([0.0, 0.05, 0.09, 0.12, 1.0])  # deviations; 0.1 is the threshold
    means += torch.tensor([3.0, 0.0, 1.0, -1.0, 0.0])
    metric = ActiveUnits(5)
    for part in means.split([1, 700, 299]):
        metric.update(part)
    expected = int((means.var(0, correction=0) > 0.01).sum())
    assert metric.compute().item() == expected == 2
