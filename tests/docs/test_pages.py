"""Pages say what the code does: every registered model has one, tables equal what they describe."""

import inspect
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

import dlarch
from dlarch import optim
from dlarch.batches import ImageBatch, Modes
from dlarch.cli.doctor import ENVIRONMENT
from dlarch.cli.main import VERBS
from dlarch.data.generators.dates import date_styles
from dlarch.nn import backpropagation
from dlarch.recipes import list_recipes
from dlarch.spec import DataSpec
from dlarch.tasks import Adversarial
from dlarch.tasks.judged import Judged

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HEADINGS = [
    "Idea",
    "The loss as a negative log-likelihood",
    "Data",
    "Configuration",
    "Optimisation",
    "Error analysis",
    "Result",
    "Differences from the paper",
    "What each logged metric means",
    "References",
]
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
MODELS = [name for name in dlarch.list_models() if dlarch.model_info(name).distribution == "dlarch"]


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """The text under each heading of the second level, in order."""
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows, but for rules."""
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    return [row for row in cells if not set("".join(row)) <= set("-:")]


def metric_tags(name: str) -> set[str]:
    """The tags of validation and test that a model logs."""
    spec, _ = dlarch.model_info(name).load().example(size=2, seed=0)
    models = [dlarch.create_model(name, spec)]
    if "out_features" in inspect.signature(models[0].build).parameters:  # numbers besides classes
        models.append(dlarch.create_model(name, DataSpec(in_features=2, out_features=1)))
    if hasattr(models[0], "knows_factors"):
        models.append(dlarch.create_model(name, spec))
        models[-1].knows_factors = True
    if isinstance(models[0], Adversarial) and models[0].batch_type is not ImageBatch:
        models[0].modes = Modes(torch.zeros(2, 2), torch.ones(2))  # what is scored where they are
    if isinstance(models[0], Judged):
        models[0]._judges = [SimpleNamespace(class_names=["a", "b"])]
    return {
        f"{stage}/{metric}"
        for model in models
        for stage in ("val", "test")
        for metric in model.metrics(stage)
    }


# ---- one page per model


def test_there_are_models_to_look_at():
    assert "seq2seq_attn" in MODELS


@pytest.mark.parametrize("name", MODELS)
def test_page_of_a_model_has_all_headings_in_order(name: str):
    assert list(sections(page(f"models/{name}.md"))) == HEADINGS
    assert all(text.strip() for text in sections(page(f"models/{name}.md")).values())


@pytest.mark.parametrize("name", MODELS)
def test_page_of_a_model_names_paper_and_recipes(name: str):
    text, entry = page(f"models/{name}.md"), dlarch.model_info(name)
    if entry.paper is None:  # older than arXiv
        assert re.search(r"\((19|20)\d\d\)", sections(text)["References"])
    else:
        assert entry.paper in text
        assert entry.paper in sections(text)["References"]
    names = {name, f"{entry.module}.{entry.qualname}", *entry.aliases}
    recipes = [recipe for recipe in list_recipes() if recipe.model in names]
    assert recipes, f"{name} has no recipe"
    missing = [recipe.name for recipe in recipes if f"`{recipe.name}`" not in text]
    assert not missing


@pytest.mark.parametrize("name", MODELS)
def test_page_of_a_model_has_a_row_for_each_constructor_argument(name: str):
    parameters = inspect.signature(dlarch.model_info(name).load()).parameters
    table = {row[0]: row[1] for row in rows(sections(page(f"models/{name}.md"))["Configuration"])}
    assert [key.strip("`") for key in table if key.startswith("`")] == list(parameters)
    for argument, parameter in parameters.items():
        if isinstance(parameter.default, bool | int | float | str):
            told = table[f"`{argument}`"].strip("`").lower()
            assert told == str(parameter.default).lower(), argument


@pytest.mark.parametrize("name", MODELS)
def test_page_of_a_model_says_what_each_metric_means(name: str):
    text = sections(page(f"models/{name}.md"))["What each logged metric means"]
    described = set(re.findall(r"`([\w/]+)`", " ".join(row[0] for row in rows(text))))
    assert {tag for tag in described if tag.startswith(("val/", "test/"))} == metric_tags(name)
    assert {"train/loss", "train/critic_loss"} & described


@pytest.mark.parametrize("name", MODELS)
def test_page_of_a_model_numbers_the_differences_of_the_docstring(name: str):
    docstring = dlarch.model_info(name).docstring
    paragraph = next(p for p in docstring.split("\n\n") if p.startswith("Differences from"))
    text = sections(page(f"models/{name}.md"))["Differences from the paper"]
    mine = re.findall(r"^(\d+)\. ", text, re.MULTILINE)
    assert mine == re.findall(r"\((\d+)\) ", paragraph)


@pytest.mark.parametrize("name", MODELS)
def test_page_of_a_model_stands_in_the_navigation(name: str):
    assert f"models/{name}.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


# ---- tables


def test_signatures_on_the_page_are_those_of_the_metrics():
    text = page("tensorboard.md")
    for name in MODELS:
        spec, _ = dlarch.model_info(name).load().example(size=2, seed=0)
        for metric, value in dlarch.create_model(name, spec).metrics("test").items():
            if hasattr(value, "signature"):
                stated = value.signature.rpartition("|version")[0]
                assert re.search(rf"^test/{metric} +{re.escape(stated)}$", text, re.MULTILINE)


def test_table_of_tags_equals_what_tasks_log():
    tags = re.findall(r"`((?:val|test)/\w+)`", " ".join(r[0] for r in rows(page("tensorboard.md"))))
    assert set(tags) == set().union(*map(metric_tags, MODELS))


def test_table_of_environment_variables_equals_that_of_doctor():
    table = rows(sections(page("command_line.md"))["Environment variables"])[1:]
    found = {variable.strip("`"): (meaning, default) for variable, meaning, default in table}
    assert found == ENVIRONMENT


def test_table_of_date_styles_equals_what_is_generated():
    table = rows(sections(page("models/seq2seq_attn.md"))["Data"])[1:]
    day = date(2001, 1, 7)
    assert table == [[f"`{style.name}`", *style.pair(day)] for style in date_styles()]


def test_defaults_of_the_optimizers_are_those_of_the_code():
    head, *body = rows(sections(page("optimizers.md"))["The rules"])
    assert head[2] == "defaults, as torch's"
    table = {row[0].strip("`"): row[2] for row in body}
    table["AdamW"] = table["AdamW"].replace("as Adam", table["Adam"].rpartition(", ")[0])
    assert sorted(table) == sorted(
        set(optim.__all__) - {"WarmupCosine", "WarmupInverseSqrt", "CalmAdam"}
    )
    for name, text in table.items():
        parameters = inspect.signature(getattr(optim, name)).parameters
        found = dict(setting.split(" ", 1) for setting in text.split(", "))
        assert list(found) == list(parameters)[1:]
        for setting, value in found.items():
            numbers = tuple(yaml.safe_load(part) for part in value.split(" and "))
            numbers = tuple(float(each) if isinstance(each, str) else each for each in numbers)
            default = parameters[setting].default
            assert numbers == (default if isinstance(default, tuple) else (default,)), setting


def test_the_loop_on_the_page_is_that_of_the_code():
    (shown,) = re.findall(r"^```py\n(.*?)^```$", page("backpropagation.md"), re.M | re.S)
    assert shown in inspect.getsource(backpropagation.backward)


def test_every_verb_is_described():
    table = rows(sections(page("command_line.md"))["Verbs"])[1:]
    assert [row[0].strip("`").removeprefix("dlarch ") for row in table] == list(VERBS)


def test_every_page_stands_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    assert sorted({*re.findall(r"\S+\.md", navigation), "results.md"}) == sorted(
        {*PAGES, "results.md"}
    )


def test_no_figure_is_still_to_be_measured():
    texts = [page(name) for name in PAGES] + [(ROOT / "README.md").read_text(encoding="utf-8")]
    assert not sorted(set(re.findall(r"MEASURED_\w+", "".join(texts))))


# ---- code


@pytest.mark.parametrize("name", [name for name in PAGES if "\n```python\n" in page(name)])
def test_python_of_a_page_runs(name: str, tmp_path: Path):
    code = re.findall(r"^```python\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)
    try:
        import torchtext  # noqa: F401
    except (ImportError, OSError):
        code = [block for block in code if "torchtext" not in block]
    environment = os.environ | {
        "DLARCH_RUNS": str(tmp_path / "runs"),
        "DLARCH_CACHE": str(tmp_path / "cache"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # A comment after a print is what it prints, if it is no sentence.
    for shown in re.findall(r"^print\(.*\)  # (\[.*\])$", "\n".join(code), re.MULTILINE):
        assert shown in done.stdout


def test_formulas_become_spans_for_mathjax():
    markdown = pytest.importorskip("markdown")
    pytest.importorskip("pymdownx")
    html = markdown.markdown(
        page("models/seq2seq_attn.md"),
        extensions=["pymdownx.arithmatex"],
        extension_configs={"pymdownx.arithmatex": {"generic": True}},
    )
    assert html.count('<div class="arithmatex">') >= 5
    assert html.count('<span class="arithmatex">') >= 10
    assert "$$" not in html
