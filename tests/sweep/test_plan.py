"""The file of a sweep: what it lists, and what is said of mistakes in it."""

from pathlib import Path

import pytest

from dlarch.errors import OptionError, UnknownNameError
from dlarch.recipes import list_sweeps
from dlarch.sweep.plan import Search, Space, read_plan


@pytest.fixture
def plan(tmp_path):
    def write(text: str, name: str = "trial"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return read_plan(str(path))

    return write


def test_runs_keep_their_order_and_names(plan):
    found = plan("""
recipe: mlp
set: {trainer.max_epochs: 2}
seeds: [3, 4]
runs:
  relu: {}
  wide and tanh: {model.activation: tanh, model.hidden_sizes: [50, 20]}
""")
    assert [setting.name for setting in found.settings] == ["relu", "wide and tanh"]
    assert found.seeds == (3, 4)
    words = found.words(found.settings[1].options, 4, "here")
    assert words[0] == "fit"
    assert words[2].endswith("mlp.yaml")
    assert words[3:] == [
        "--name", "here", "--seed_everything", "4", "--trainer.max_epochs", "2",
        "--model.activation", "tanh", "--model.hidden_sizes", "[50, 20]",
    ]  # fmt: skip


def test_a_grid_is_all_combinations(plan):
    found = plan("""
recipe: mlp
grid:
  model.optimizer.lr: [1e-3, 0.1]
  model.activation: [relu, tanh, selu]
""")
    assert len(found.settings) == 6
    assert found.settings[0].name == "lr 0.001, activation relu"
    assert found.settings[5].options == {"model.optimizer.lr": 0.1, "model.activation": "selu"}


def test_sides_of_a_grid_may_be_named_options(plan):
    found = plan("""
grid:
  model: {wide: {recipe: mlp, model.hidden_sizes: [50]}, convolutions: {recipe: cnn}}
  task: {short: {trainer.max_epochs: 1}, long: {trainer.max_epochs: 9, data.batch_size: 8}}
  model.dropout: [0.1]
""")
    assert [setting.name for setting in found.settings] == [
        "wide, short, dropout 0.1",
        "wide, long, dropout 0.1",
        "convolutions, short, dropout 0.1",
        "convolutions, long, dropout 0.1",
    ]
    options = dict(found.settings[3].options)
    assert options.pop("recipe").endswith("cnn.yaml")
    assert options == {"trainer.max_epochs": 9, "data.batch_size": 8, "model.dropout": 0.1}


def test_recipes_are_compared_in_one_list_or_grid(plan, tmp_path):
    text = """
set: {trainer.max_epochs: 2}
runs:
  wide: {recipe: mlp, model.hidden_sizes: [50]}
  convolutions: {recipe: cnn}
"""
    found = plan(text)
    wide, convolutions = (found.words(setting.options, 1, "x") for setting in found.settings)
    assert wide[2].endswith("mlp.yaml")
    assert wide[-2:] == ["--model.hidden_sizes", "[50]"]
    assert convolutions[2].endswith("cnn.yaml")
    assert "--recipe" not in [*wide, *convolutions]
    own = plan("recipe: mlp\n" + text.replace("recipe: mlp, ", ""))
    keys = [[p.key(setting.options, 1) for setting in p.settings] for p in (found, own)]
    assert keys[0] == keys[1], "known by what the recipe says, wherever it is named"
    assert keys[0][0] != keys[0][1]

    crossed = plan("grid: {recipe: [mlp, cnn], seed_everything: [1, 2]}")
    assert crossed.settings[3].name == "recipe cnn, seed_everything 2"
    (tmp_path / "mine.yaml").write_text("model: mlp\ndata: digits\n", encoding="utf-8")
    beside = plan("metric: val/loss\nsearch: {trials: 1, space: {recipe: [mine.yaml, cnn]}}")
    assert beside.search.space["recipe"].choices[0] == str(tmp_path / "mine.yaml")


def test_a_class_is_named_by_its_last_word_and_arguments(plan):
    found = plan("""
recipe: mlp
grid:
  model.optimizer: [SGD, {class_path: torch.optim.SGD, init_args: {momentum: 0.9}}]
  model.optimizer.lr: [0.1]
""")
    names = [setting.name for setting in found.settings]
    assert names == ["optimizer SGD, lr 0.1", "optimizer SGD momentum 0.9, lr 0.1"]


def test_a_search_has_a_space(plan):
    found = plan("""
recipe: mlp
metric: val/accuracy
search:
  sampler: random
  trials: 7
  space:
    model.optimizer.lr: {low: 0.001, high: 1, log: true}
    model.hidden_sizes: [[20], [50, 20]]
""")
    assert found.search == Search(
        "random",
        7,
        1,
        {
            "model.optimizer.lr": Space(None, 0.001, 1, log=True),
            "model.hidden_sizes": Space(([20], [50, 20])),
        },
    )
    assert "--monitor" in found.words({}, 1, "here")


def test_the_key_tells_apart_what_runs_differently(plan, tmp_path):
    text = "recipe: {recipe}\nset: {{trainer.max_epochs: {epochs}}}\nruns: {{relu: {{}}}}\n"
    first = plan(text.format(recipe="mlp", epochs=2))
    same = plan(text.format(recipe="mlp", epochs=2), "another_name")
    longer = plan(text.format(recipe="mlp", epochs=3))
    other = plan(text.format(recipe="cnn", epochs=2))
    keys = {p.key({}, 1) for p in (first, longer, other)}
    assert first.key({}, 1) == same.key({}, 1)
    assert len(keys | {first.key({}, 2), first.key({"model.activation": "tanh"}, 1)}) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runs: {a: {}}", "names no recipe"),
        ("runs: {a: {recipe: mlp}, b: {}}", "names no recipe"),
        ("set: {recipe: mlp}\nruns: {a: {recipe: mlp}}", "a line of its own"),
        ("recipe: mlp", "exactly one of the sections runs"),
        ("recipe: mlp\nruns: {a: {}}\ngrid: {b: [1]}", "not runs and grid"),
        ("recipe: mlp\nrun: {a: {}}", "unknown section run. Did you mean 'runs'?"),
        ("recipe: mlp\nruns: [a]", "runs must be options with values"),
        ("recipe: mlp\ngrid: {model.dropout: 0.1}", "model.dropout must be a list"),
        ("recipe: mlp\ngrid: {model: {a: [1]}}", "model, a must be options with values"),
        (
            "recipe: mlp\ngrid: {a: {x: {seed_everything: 1}}, seed_everything: [2]}",
            "two sides of the grid set seed_everything",
        ),
        ("recipe: mlp\nseeds: one\nruns: {a: {}}", "seeds must be whole numbers"),
        ("recipe: mlp\nsearch: {trials: 3, space: {}}", "needs a validation metric"),
        (
            "recipe: mlp\nmetric: test/accuracy\nsearch: {trials: 3, space: {}}",
            "needs a validation metric",
        ),
        ("recipe: mlp\nmetric: val/loss\nsearch: {space: {}}", "needs the number of trials"),
        (
            "recipe: mlp\nmetric: val/loss\nsearch: {trials: 1, space: {a: {low: 1e-3, high: 1}}}",
            "write 1.0e-4",
        ),
        (
            "recipe: mlp\nmetric: val/loss\nsearch: {trials: 1, sampler: bayes, space: {}}",
            "sampler must be random or tpe",
        ),
    ],
)
def test_mistakes_are_named(plan, text, said):
    with pytest.raises(OptionError, match=said.replace("?", r"\?")):
        plan(text)


def test_a_recipe_that_does_not_exist(plan):
    with pytest.raises(UnknownNameError, match="no recipe 'mlpp'"):
        plan("recipe: mlpp\nruns: {a: {}}")


def test_a_recipe_beside_the_sweep_is_found(plan, tmp_path):
    (tmp_path / "mine.yaml").write_text("model: mlp\ndata: digits\n", encoding="utf-8")
    found = plan("recipe: mine.yaml\nruns: {a: {}}")
    assert found.recipe == tmp_path / "mine.yaml"


@pytest.mark.parametrize("sweep", list_sweeps(), ids=lambda sweep: sweep.name)
def test_shipped_sweeps_can_be_read_by_their_short_names(sweep):
    found = read_plan(Path(sweep.name).name)
    assert found.settings or found.search
    names = [setting.name for setting in found.settings]
    assert len(set(names)) == len(names)
