"""Canaries for the corners of jsonargparse and LightningCLI that the command line relies on."""

import argparse
from collections.abc import Callable, Iterable
from typing import Literal

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser, _typehints
from lightning.pytorch.cli import LightningCLI
from torch import optim

from dlarch.compat.parser import (
    ComplaintError,
    Parser,
    flattened,
    install_names,
    option_name,
    prefer_torch_optim,
    prefer_whole_numbers,
    renamed,
    sentence,
)


class Net:
    """Has options of several kinds."""

    def __init__(
        self,
        width: int = 4,
        depth: int | None = None,
        cell: Literal["gru", "lstm"] = "gru",
        sizes: list[int] | None = None,
        inner: "Net | None" = None,
    ) -> None:
        self.width = width


class WithLambda:
    """Has an optimizer whose default is a lambda in the signature."""

    def __init__(self, optimizer=lambda parameters: optim.Adam(parameters, lr=0.25)) -> None:
        self.optimizer = optimizer


@pytest.fixture
def parser() -> Parser:
    made = Parser(allow_abbrev=False, exit_on_error=True)
    made.add_subclass_arguments(Net, "model", required=False)
    made.add_argument("--trainer.max_epochs", type=int | None, default=None)
    made.add_argument("--config", action="config")
    return made


def complaint(parser: Parser, *words: str) -> str:
    with pytest.raises(ComplaintError) as caught:
        parser.parse_args(list(words))
    return str(caught.value)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    import sys
    from types import ModuleType

    module = ModuleType("canary_models")
    module.Net, module.WithLambda = Net, WithLambda
    monkeypatch.setattr(Net, "__module__", "canary_models")
    monkeypatch.setattr(WithLambda, "__module__", "canary_models")
    monkeypatch.setitem(sys.modules, "canary_models", module)


KNOWN = ["model", "model.width", "model.depth", "model.cell", "trainer.max_epochs"]
CLASS = "--model=canary_models.Net"


@pytest.mark.parametrize(
    ("words", "given", "expected"),
    [
        (("--model.widht=3",), ["model.widht"],
         "There is no option --model.widht. Did you mean '--model.width'?"),
        (("--model.width=x",), ["model.width"], "--model.width must be int, not 'x'."),
        (("--model.cell=rnn",), ["model.cell"], "--model.cell must be 'gru' or 'lstm', not 'rnn'."),
        (("--model.sizes=3",), ["model.sizes"], "--model.sizes must be list, not '3'."),
        (("--model.inner=canary_models.Net", "--model.inner.width=x"),
         ["model.inner", "model.inner.width"], "--model.inner.width must be int, not 'x'."),
        (("--trainer.max_epoch=3",), [],
         "There is no option --trainer.max_epoch. Did you mean '--trainer.max_epochs'?"),
        (("--trainer.max_epochs=x",), [], "--trainer.max_epochs must be int, not 'x'."),
        (("--trainer.max_epochs",), [], "--trainer.max_epochs needs a value."),
        (("word",), [], "There is no use for 'word'; options begin with --."),
    ],
)  # fmt: skip
def test_a_complaint_becomes_a_sentence_with_the_full_name(parser, words, given, expected):
    assert sentence(complaint(parser, CLASS, *words), given, KNOWN) == expected


def test_a_class_that_does_not_exist(parser):
    told = sentence(complaint(parser, "--model=no.such.Class"), ["model"], KNOWN)
    assert told.startswith("--model: the class no.such.Class cannot be used: ")
    told = sentence(complaint(parser, "--model=Nat"), ["model"], KNOWN)
    assert told == "--model: there is no class 'Nat'; give its path, module.Class."


def test_complaints_about_files_name_the_option(parser, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("model: {class_path: canary_models.Net, init_args: {widht: 3}}\n")
    given = ["model", "model.widht"]
    told = sentence(complaint(parser, f"--config={path}"), given, KNOWN)
    assert told == "There is no option --model.widht. Did you mean '--model.width'?"
    path.write_text("model: {class_path: canary_models.Net, init_args: {depth: [1]}}\n")
    told = sentence(complaint(parser, f"--config={path}"), given, KNOWN)
    assert told == "--model.depth must be int, not '[1]'."


def test_an_unknown_complaint_is_told_by_its_first_line():
    assert sentence("Something new.\nusage: ...", [], []) == "Something new."
    assert sentence('Parser key "model": who knows', [], []) == "--model cannot be this."


def test_long_values_are_shortened(parser):
    told = sentence(complaint(parser, "--trainer.max_epochs=" + "x" * 200), [], [])
    assert len(told) < 120
    assert told.endswith("xxx...'.")


def test_abbreviations_are_a_danger_that_the_option_removes():
    # Without allow_abbrev=False `--max_ep 3` would be taken for --max_epochs.
    careless = ArgumentParser(exit_on_error=False)
    careless.add_argument("--max_epochs", type=int)
    careful = Parser(allow_abbrev=False)
    careful.add_argument("--max_epochs", type=int)
    assert careless.parse_args(["--max_ep=3"]).max_epochs == 3
    with pytest.raises(ComplaintError, match=r"[Uu]nrecognized arguments: --max_ep"):
        careful.parse_args(["--max_ep=3"])


def test_names_in_yaml_become_class_paths_and_back(tmp_path):
    paths = {"net": "canary_models.Net"}
    names = {path: name for name, path in paths.items()}
    install_names(lambda _, name: paths.get(name, name), lambda _, path: names.get(path, path))
    parser = Parser(parser_mode="dlarch")
    parser.add_subclass_arguments(Net, "model")
    parser.add_argument("--config", action="config")
    recipe = tmp_path / "recipe.yaml"
    for text in ("model: net\n", "model: {class_path: net, init_args: {width: 4}}\n"):
        recipe.write_text(text)
        parsed = parser.parse_args([f"--config={recipe}"])
        assert parsed.model.class_path == "canary_models.Net"
        written = yaml.safe_load(parser.dump(parsed))
        assert written["model"]["class_path"] == "net"
        assert written["model"]["init_args"]["width"] == 4
    # A configuration can stand on the command line itself, as that of a checkpoint does.
    inline = parser.parse_args(['--config={"model": {"class_path": "net"}}', "--model.width=7"])
    assert inline.model.init_args.width == 7


def test_later_values_win_and_other_arguments_stay(parser, tmp_path):
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("model: {class_path: canary_models.Net, init_args: {width: 1, depth: 2}}\n")
    second.write_text("model: {class_path: canary_models.Net, init_args: {width: 3}}\n")
    parsed = parser.parse_args([f"--config={first}", f"--config={second}", "--model.cell=lstm"])
    arguments = parsed.model.init_args
    assert (arguments.width, arguments.depth, arguments.cell) == (3, 2, "lstm")


def test_a_lambda_as_default_can_be_written_down():
    # Else config.yaml would hold "Unable to serialize" and be refused when it is read.
    from torch import nn

    WithLambda.__init__.__annotations__["optimizer"] = Callable[
        [Iterable[nn.Parameter]], optim.Optimizer
    ]
    parser = Parser()
    parser.add_subclass_arguments(WithLambda, "model")
    text = parser.dump(parser.parse_args(["--model=canary_models.WithLambda"]))
    optimizer = yaml.safe_load(text)["model"]["init_args"]["optimizer"]
    assert optimizer["class_path"] == "torch.optim.Adam"
    assert optimizer["init_args"]["lr"] == 0.25


def test_a_bare_name_of_an_optimizer_means_that_of_torch(monkeypatch):
    monkeypatch.setattr(
        _typehints, "resolve_class_path_by_name", _typehints.resolve_class_path_by_name
    )
    from dlarch.optim import Adam

    assert issubclass(Adam, optim.Optimizer)
    resolve = getattr(_typehints.resolve_class_path_by_name, "__wrapped__", None)
    with pytest.raises(ValueError, match="Multiple subclasses with name Adam"):
        (resolve or _typehints.resolve_class_path_by_name)(optim.Optimizer, "Adam")
    prefer_torch_optim()
    prefer_torch_optim()
    parser = Parser()
    parser.add_subclass_arguments(optim.Optimizer, "one", skip={"params"})
    parser.add_argument("--made", type=Callable[[Iterable[torch.nn.Parameter]], optim.Optimizer])
    parsed = parser.parse_args(["--one=Adam", "--made=Adam", "--made.lr=0.5"])
    assert parsed.one.class_path == parsed.made.class_path == "torch.optim.Adam"
    parsed = parser.parse_args(["--made=dlarch.optim.Adam"])
    assert parsed.made.class_path == "dlarch.optim.Adam"


def test_a_whole_number_stays_one_whatever_the_order_of_a_union(monkeypatch):
    name = "sort_subtypes_for_union"
    monkeypatch.setattr(_typehints, name, getattr(_typehints, name))
    prefer_whole_numbers()
    prefer_whole_numbers()
    parser = Parser()
    parser.add_argument("--amount", type=float | int | None)
    parser.add_argument("--amounts", type=list[float | int])
    for word, value in (("1", 1), ("1.0", 1.0), ("0.5", 0.5), ("null", None)):
        found = parser.parse_args([f"--amount={word}"]).amount
        assert (found, type(found)) == (value, type(value))
    amounts = parser.parse_args(["--amounts=[2, 2.5]"]).amounts
    assert [type(amount) for amount in amounts] == [int, float]


def test_lightning_cli_still_has_what_is_overridden():
    for name in ("init_parser", "subcommands", "parse_arguments", "_parse_ckpt_path",
                 "before_instantiate_classes", "instantiate_trainer", "_prepare_subcommand_kwargs",
                 "after_instantiate_classes", "_parser", "_get"):  # fmt: skip
        assert callable(getattr(LightningCLI, name)), name
    assert set(LightningCLI.subcommands()) == {"fit", "validate", "test", "predict"}
    assert issubclass(Parser, argparse.ArgumentParser)


def test_options_are_flattened_as_people_type_them():
    values = {
        "model": {"class_path": "vae", "init_args": {"size": 2, "optimizer": {"class_path": "A"}}},
        "trainer": {"callbacks": [{"class_path": "B", "init_args": {"x": 1}}, "C"], "n": None},
    }
    assert list(flattened(values)) == [
        ("model", "vae"),
        ("model.size", 2),
        ("model.optimizer", "A"),
        ("trainer.callbacks", "B"),
        ("trainer.callbacks.x", 1),
        ("trainer.callbacks", "C"),
        ("trainer.n", None),
    ]
    assert option_name("model.init_args.optimizer.init_args.lr") == "model.optimizer.lr"
    assert option_name("trainer.callbacks+") == "trainer.callbacks"


def test_only_the_sections_of_a_mapping_are_renamed():
    assert renamed([1], str.upper) == [1]
    assert renamed({"model": 5, "data": None}, lambda *_: "x") == {"model": 5, "data": None}
    assert renamed({"other": "vae"}, lambda *_: "x") == {"other": "vae"}
