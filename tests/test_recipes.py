"""Where recipes are and what they serve."""

import re
from pathlib import Path

import pytest
import yaml

from dlarch import recipes
from dlarch.errors import UnknownNameError
from dlarch.recipes import find_recipe, list_recipes, list_sweeps, recipes_folder


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """A folder of shipped recipes, and an empty working directory."""
    folder, here = tmp_path / "shipped", tmp_path / "here"
    (folder / "sweeps").mkdir(parents=True)
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(recipes, "recipes_folder", lambda: folder)

    def write(name: str, text: str) -> Path:
        path = folder / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


CLASS_PATHS = """\
# Dates, written in words.
# Run: something
seed_everything: 1
model:
  # the model
  class_path: seq2seq_attn   # here

  init_args:
    optimizer:
      class_path: torch.optim.Adam
data:
  init_args: {source: dates}
  class_path: "translation"
"""


@pytest.mark.parametrize(
    "text",
    [
        CLASS_PATHS,
        "# Dates, written in words.\nmodel: seq2seq_attn\ndata: translation  # short\n",
        "# Dates, written in words.\ndata: {class_path: translation}\n"
        "model: {'class_path': 'seq2seq_attn', init_args: {a: 1}}\n",
        "\n\n#   Dates, written in words.\nmodel:\n  class_path: 'seq2seq_attn'\ntrainer:\n"
        "  callbacks:\n    - class_path: other\ndata:\n  class_path: translation\n",
    ],
)
def test_model_data_and_summary_are_read_from_the_content(shipped, text):
    path = shipped("sweeps/x", text)
    (recipe,) = list_recipes()
    assert recipe == recipes.Recipe(
        "sweeps/x", path, "seq2seq_attn", "translation", "Dates, written in words."
    )


def test_recipe_without_model_names_none(shipped):
    shipped("x", "trainer:\n  max_epochs: 1\nother:\n  model: no\n")
    (recipe,) = list_recipes()
    assert (recipe.model, recipe.data, recipe.summary) == ("", "", "")


def test_recipes_are_sorted_by_name_and_found_in_subfolders(shipped):
    for name in ("b", "sweeps/a", "a"):
        shipped(name, "model: m\n")
    assert [recipe.name for recipe in list_recipes()] == ["a", "b", "sweeps/a"]


def test_sweeps_are_listed_apart_with_or_without_a_recipe_for_all(shipped):
    shipped("a", "# One.\nmodel: m\n")
    shipped("sweeps/b", "# All of one.\nrecipe: a\ngrid: {model.x: [1]}\n")
    shipped("sweeps/c", "# Each its own.\nruns:\n  one: {recipe: a}\n")
    assert [recipe.name for recipe in list_recipes()] == ["a"]
    assert [recipe.name for recipe in list_sweeps()] == ["sweeps/b", "sweeps/c"]


@pytest.mark.parametrize("text", ["x", "x.yaml", "recipes/x.yaml", "recipes/x"])
def test_shipped_recipe_is_found_from_an_empty_folder(shipped, text):
    path = shipped("x", "model: m\n")
    assert find_recipe(text) == path


def test_path_as_given_comes_before_the_suffix_and_both_before_what_is_shipped(shipped):
    path = shipped("x", "model: m\n")
    assert find_recipe("x") == path
    Path("x.yaml").touch()
    assert find_recipe("x") == Path("x.yaml")
    Path("x").touch()
    assert find_recipe("x") == Path("x")
    assert find_recipe("recipes/x.yaml") == path
    Path("recipes").mkdir()
    Path("recipes/x.yaml").touch()
    assert find_recipe("recipes/x.yaml") == Path("recipes/x.yaml")


def test_miss_names_the_nearest(shipped):
    shipped("seq2seq_attn", "model: m\n")
    with pytest.raises(UnknownNameError, match="Did you mean 'seq2seq_attn'"):
        find_recipe("recipes/seq2seq_atn.yaml")


def test_recipes_of_the_checkout_or_the_wheel_are_there_and_agree_with_a_yaml_parser():
    assert recipes_folder().is_dir()
    for recipe in list_recipes():
        content = yaml.safe_load(recipe.path.read_text(encoding="utf-8"))
        for key in ("model", "data"):
            block = content.get(key) or ""
            named = block if isinstance(block, str) else block.get("class_path", "")
            assert getattr(recipe, key) == named, recipe.name
        assert re.search(r"\w", recipe.summary), recipe.name
