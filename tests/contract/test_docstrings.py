"""What the docstring of a model or data module must say."""

import inspect
import re

import pytest

from dlarch import data_info, list_data, list_models, model_info

MODELS = pytest.mark.parametrize("name", list_models())
EVERYTHING = pytest.mark.parametrize(
    "info",
    [*map(model_info, list_models()), *map(data_info, list_data())],
    ids=lambda info: info.name,
)


def documented(text):
    """Names under `Args:`, and whether each has an explanation."""
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)+)", inspect.cleandoc(text), re.MULTILINE)
    assert section, "no Args: section"
    return re.findall(r"^ {4}(\w+): \S.*", section[1], re.MULTILINE)


@EVERYTHING
def test_every_argument_is_explained_in_its_order(info):
    cls = info.load()
    arguments = list(inspect.signature(cls.__init__).parameters)[1:]
    assert documented(cls.__doc__) == arguments


@EVERYTHING
def test_the_summary_is_one_full_sentence(info):
    assert 20 < len(info.summary) < 100
    assert info.summary.endswith(".")


@MODELS
def test_a_model_says_shapes_differences_and_what_to_expect(name, helpers):
    text = inspect.cleandoc(model_info(name).load().__doc__)
    for heading in ("Shapes:", "Differences from the paper:", "Expected:"):
        assert re.search(rf"^{heading} \S", text, re.MULTILINE), heading
    numbers = re.findall(
        r"\((\d+)\)", text.split("Differences from the paper:")[1].split("\n\n")[0]
    )
    assert numbers == [str(n + 1) for n in range(len(numbers))]
    assert "->" in text.split("Shapes:")[1].split("\n\n")[0]


@MODELS
def test_a_model_names_its_paper(name, helpers):
    if (name, "paper") in helpers.EXEMPTIONS:
        pytest.skip(helpers.EXEMPTIONS[name, "paper"])
    assert re.fullmatch(r"\d{4}\.\d{4,5}|[a-z-]+/\d{7}", model_info(name).paper or "")


@MODELS
def test_public_methods_are_documented(name):
    cls = model_info(name).load()
    for attribute, value in vars(cls).items():
        if inspect.isfunction(value) and not attribute.startswith("_") and attribute != "build":
            assert (value.__doc__ or "").strip(), attribute
