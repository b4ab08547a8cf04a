"""Messages for people."""

import inspect

import pytest

from dlarch import errors
from dlarch.errors import OptionError, UserError, check_at_least_1, did_you_mean

CHOICES = ["seq2seq", "seq2seq_attn", "Transformer", "vae"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("seq2seq_atn", " Did you mean 'seq2seq_attn' or 'seq2seq'?"),
        ("transformer", " Did you mean 'Transformer'?"),
        ("VEA", " Did you mean 'vae'?"),
        ("attn", " Did you mean 'seq2seq_attn'?"),
        ("zzzzz", ""),
        ("", ""),
    ],
)
def test_the_nearest_names_are_named(name, hint):
    assert did_you_mean(name, CHOICES) == hint


def test_options_below_1_are_refused_by_name():
    check_at_least_1(layers=1, heads=None, size=2)
    with pytest.raises(OptionError) as error:
        check_at_least_1(layers=1, heads=-2, size=0)
    assert str(error.value) == "heads must be at least 1, not -2."


def test_every_error_is_a_user_error_with_an_explanation():
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    kinds = [kind for kind in classes if kind.__module__ == errors.__name__]
    assert len(kinds) >= 9
    for kind in kinds:
        assert issubclass(kind, UserError)
        assert kind.__doc__
        assert str(kind("what to do")) == "what to do"
