"""`dlarch generate`: names, of a class if asked, and whether they are new."""

import pytest

from dlarch.hub import AutoModel


@pytest.fixture(scope="module")
def run(cli, here):
    words = "--data names --data.locales [fi_FI] --model.hidden_size 32 --data.batch_size 16"
    outcome = cli(f"fit --model char_rnn {words} --trainer.max_epochs 2 --trainer.accelerator cpu")
    assert outcome.code == 0, outcome.err
    assert f"dlarch generate {outcome.run.folder} --n 10" in outcome.out
    return outcome.run


def test_names_are_those_of_the_method_and_known_ones_are_marked(cli, run):
    outcome = cli(f"generate {run.folder} --n 30 --condition gender=female --seed 2")
    assert outcome.code == 0, outcome.err
    lines = [line.split("\t") for line in outcome.out.splitlines()]
    model = AutoModel.from_pretrained(run.folder)
    assert [text for text, _ in lines] == model.generate(30, condition="female", seed=2)
    assert {mark for _, mark in lines} <= {"new", "known"}
    new = sum(mark == "new" for _, mark in lines)
    assert f"{new} of 30 are not among the training texts" in outcome.err


def test_one_name_comes_as_it_is_written(cli, run):
    outcome = cli(f"generate {run.folder} --prompt Ma --condition male --seed 2")
    model = AutoModel.from_pretrained(run.folder)
    (name,) = model.generate(1, prompt="Ma", condition="male", seed=2)
    assert outcome.out == name + "\n"
    assert "1 of 1 is not among the training texts" in outcome.err  # drawn by a poor model


def test_mistakes_are_named(cli, run):
    assert "only gender: female, male" in cli(f"generate {run.folder} --condition age=9").complaint
    assert "Did you mean 'male'" in cli(f"generate {run.folder} --condition mal").complaint
    assert "never seen '€'" in cli(f"generate {run.folder} --prompt €").complaint
    assert "must be at least 1" in cli(f"generate {run.folder} --n 0").complaint


def test_a_model_that_does_not_write(cli, here):
    gate = cli("fit --model mlp --data logic_gates --trainer.max_epochs 1").run
    assert "MLP does not generate" in cli(f"generate {gate.folder}").complaint
