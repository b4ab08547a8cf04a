import math
from dataclasses import replace

import pytest

from dlarch.callbacks.diagnosis import ILLNESSES, LOOKS, Diagnosis, Layer, Look, Units

HEALTHY = Look(
    step=49,
    learning_rate=0.1,
    loss=2.3,
    layers=[
        Layer("encoder.0", gradient=0.5, weight=10.0, update=2e-3),
        Layer("encoder.2", gradient=0.8, weight=8.0, update=2e-3),
        Layer("output", gradient=1.0, weight=3.0, update=1e-3),
    ],
    units=[Units("encoder.1", "ReLU", dead=0.1), Units("encoder.3", "Tanh", saturated=0.2)],
)


def changed(index, **figures):
    layers = list(HEALTHY.layers)
    layers[index] = replace(layers[index], **figures)
    return replace(HEALTHY, layers=layers)


def with_units(*units):
    return replace(HEALTHY, units=units)


ILL = {
    "gradients grew": ("Exploding gradients", changed(1, gradient=2e3)),
    "gradients are no numbers": ("Exploding gradients", changed(1, gradient=math.nan)),
    "weights grew": ("Exploding gradients", changed(0, weight=2e3)),
    "steps beyond the weights": ("Exploding gradients", changed(2, update=1.5)),
    "weights shrink": ("Weights go to 0", changed(1, weight=0.07)),
    "saturated": ("Saturation", with_units(Units("encoder.3", "Tanh", saturated=0.8))),
    "dead": ("Dead units", with_units(Units("encoder.1", "ReLU", dead=0.6))),
    "lower layers stand still": ("Vanishing gradients", changed(0, gradient=9e-5)),
    "no gradient at all": ("Vanishing gradients", changed(0, gradient=0.0)),
    "nothing moves": (
        "Stagnation",
        replace(HEALTHY, layers=[replace(layer, update=1e-7) for layer in HEALTHY.layers]),
    ),
}


def told(*looks):
    diagnosis = Diagnosis()
    diagnosis.judge(HEALTHY)
    return [diagnosis.judge(look) for look in looks]


def test_every_illness_has_a_sign_here():
    assert {illness for illness, _ in ILL.values()} == set(ILLNESSES)


@pytest.mark.parametrize("case", ILL)
def test_an_illness_is_told_once_when_it_has_lasted(case):
    illness, look = ILL[case]
    *before, sentence = told(*[look] * LOOKS)
    assert before == [None] * (LOOKS - 1)
    assert sentence.startswith(f"{illness}: ")
    assert sentence.endswith(ILLNESSES[illness][1])
    assert told(*[look] * (3 * LOOKS)).count(None) == 3 * LOOKS - 1


@pytest.mark.parametrize("case", ILL)
def test_what_passes_by_is_not_told(case):
    look = ILL[case][1]
    assert told(*[look, look, HEALTHY] * 4) == [None] * 12


def test_the_sentence_says_where_and_how_much():
    vanished = told(*[changed(0, gradient=1e-5, update=1e-8)] * LOOKS)[-1]
    assert "the gradient of encoder.0 is 1e-05 of that of output, so that lower" in vanished
    enlarged = told(*[changed(0, gradient=1e-5)] * LOOKS)[-1]  # as Adam does
    assert "the optimizer enlarges it" in enlarged
    died = told(*[with_units(Units("encoder.1", "ReLU", dead=0.6), Units("b", "ReLU", 1.0))] * 3)
    assert "100% of the units of b are 0" in died[-1]  # the worst
    assert "The same holds for 1 more layer." in died[-1]


def test_a_cause_hides_what_follows_from_it():
    saturated = [Units("encoder.3", "Tanh", saturated=0.99)]
    both = replace(changed(0, gradient=1e-7), units=saturated)
    sentences = [sentence for sentence in told(*[both] * 9) if sentence]
    assert len(sentences) == 1
    assert sentences[0].startswith("Saturation")


def test_another_part_of_the_model_is_told_of_later():
    first = with_units(Units("encoder.1", "ReLU", dead=0.9))
    second = with_units(Units("encoder.1", "ReLU", dead=0.9), Units("decoder.1", "ReLU", dead=0.9))
    same = with_units(Units("encoder.1", "ReLU", dead=0.9), Units("encoder.4", "ReLU", dead=0.9))
    sentences = [sentence for sentence in told(*[first] * 3, *[second] * 3) if sentence]
    assert ["encoder" in sentence for sentence in sentences] == [True, False]
    assert sum(sentence is not None for sentence in told(*[first] * 3, *[same] * 3)) == 1


def test_only_the_lowest_layers_can_stand_still():
    """A layer in the middle, such as that of a gate, may have a small gradient."""
    assert told(*[changed(1, gradient=1e-6)] * 5) == [None] * 5


def test_a_training_that_is_over_does_not_stagnate():
    still = ILL["nothing moves"][1]
    learnt = replace(still, loss=0.1)
    taken_back = replace(still, learning_rate=1e-5)
    assert told(*[learnt] * 5, *[taken_back] * 5) == [None] * 10
