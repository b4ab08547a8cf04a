"""Names of models and data modules, and making them."""

import logging
import sys
from typing import NamedTuple

import pytest

import dlarch
from dlarch import factory, registry
from dlarch.errors import MismatchError, NameClashError, OptionError, UnknownNameError, UserError
from dlarch.factory import create_data, create_model
from dlarch.registry import (
    data_info,
    find,
    list_data,
    list_models,
    model_info,
    register_data,
    register_model,
)
from dlarch.spec import DataSpec


@pytest.fixture
def fresh(monkeypatch):
    """Forget afterwards what a test registers."""
    monkeypatch.setattr(registry, "_registered", {"model": {}, "data": {}, "baseline": {}})
    monkeypatch.setattr(registry, "_classes", {})
    registry._scan.cache_clear()
    yield
    registry._scan.cache_clear()


class PairBatch(NamedTuple):
    x: int


class ImageBatch(NamedTuple):
    x: int


class Base:
    """Stands for a task."""

    batch_type = PairBatch


class PairData:
    """Data whose spec is known after setup."""

    batch_type = PairBatch
    spec = None
    processor = "the processor"

    def __init__(self, size: int = 7) -> None:
        self.size, self.calls = size, []

    def prepare_data(self):
        self.calls.append("prepare_data")

    def setup(self, stage):
        self.calls.append(stage)
        self.spec = DataSpec(source_vocab_size=self.size, target_vocab_size=9)


def make_model():
    @register_model("tiny", paper="1.2", aliases=("small",))
    class Tiny(Base):
        """Is small.

        And has no more to say.
        """

        def __init__(self, source_vocab_size: int | None = None, width: int = 3) -> None:
            self.source_vocab_size, self.width = source_vocab_size, width

    return Tiny


def test_registered_class_is_described_and_found_by_name_and_alias(fresh):
    tiny = make_model()
    assert tiny.registry_name == "tiny"
    entry = find("model", "small")
    assert entry == model_info("tiny")
    assert (entry.name, entry.summary, entry.task) == ("tiny", "Is small.", "Base")
    assert (entry.paper, entry.aliases, entry.distribution) == ("1.2", ("small",), None)
    assert entry.load() is tiny
    assert "tiny" in list_models()
    assert "small" not in list_models()


def test_task_of_a_subclass_of_a_registered_class_is_that_of_its_parent(fresh):
    tiny = make_model()

    @register_model("tinier")
    class Tinier(tiny):
        """Smaller."""

    assert model_info("tinier").task == "Base"


def test_listing_filters_by_name_task_and_family(fresh):
    make_model()
    assert list_models("TI*") == ["tiny"]
    assert list_models("*", task="base") == ["tiny"]
    assert "tiny" not in list_models(family="seq2seq")
    assert list_models("t[!i]*", task="Base") == []


def test_second_class_of_a_name_is_refused_unless_asked_for(fresh):
    make_model()
    with pytest.raises(NameClashError, match=r"'tiny'.*make_model.<locals>.Tiny.*override=True"):

        @register_model("tiny")
        class Other(Base):
            pass

    @register_model("tiny", override=True)
    class Third(Base):
        pass

    assert model_info("tiny").load() is Third


def test_alias_of_another_class_is_a_clash_too(fresh):
    make_model()
    with pytest.raises(NameClashError):
        register_model("small")(type("Other", (Base,), {}))
    with pytest.raises(NameClashError):
        register_model("fresh_name", aliases=("tiny",))(type("Other", (Base,), {}))


def test_same_class_imported_again_is_no_clash_and_the_newer_one_counts(fresh):
    first, second = make_model(), make_model()
    assert first is not second
    assert model_info("tiny").load() is second


def test_built_in_name_is_protected(fresh):
    with pytest.raises(NameClashError, match=r"seq2seq_attn"):
        register_model("seq2seq_attn")(type("Mine", (Base,), {}))


def test_miss_names_the_nearest(fresh):
    make_model()
    with pytest.raises(UnknownNameError, match=r"no model 'tinny'\. Did you mean 'tiny'"):
        model_info("tinny")
    with pytest.raises(UnknownNameError, match=r"no data module 'tiny'"):
        data_info("tiny")


def test_facts_are_taken_from_a_spec_and_filtered_by_the_constructor(fresh):
    make_model()
    spec = DataSpec(source_vocab_size=7, target_vocab_size=9)
    model = create_model("tiny", spec, width=5)
    assert (model.source_vocab_size, model.width) == (7, 5)


def test_equal_fact_given_by_hand_is_accepted_and_another_refused(fresh):
    make_model()
    spec = DataSpec(source_vocab_size=7)
    assert create_model("tiny", spec, source_vocab_size=7).source_vocab_size == 7
    with pytest.raises(MismatchError, match=r"source_vocab_size is given as 8.*data have 7"):
        create_model("tiny", spec, source_vocab_size=8)


def test_data_module_is_set_up_once_and_hands_over_its_processor(fresh):
    make_model()
    data = PairData(size=11)
    model = create_model("tiny", data)
    assert data.calls == ["prepare_data", "fit"]
    assert (model.source_vocab_size, model.processor) == (11, "the processor")
    create_model("tiny", data)
    assert data.calls == ["prepare_data", "fit"]


def test_facts_of_inherited_keyword_arguments_are_passed_on(fresh):
    tiny = make_model()

    @register_model("tinier")
    class Tinier(tiny):
        def __init__(self, depth: int = 1, **options) -> None:
            super().__init__(**options)
            self.depth = depth

    model = create_model("tinier", DataSpec(source_vocab_size=7), depth=2, width=4)
    assert (model.depth, model.width, model.source_vocab_size) == (2, 4, 7)
    with pytest.raises(OptionError, match=r"'tinier' has no option 'widht'. Did you mean 'width'"):
        create_model("tinier", widht=4)


def test_unknown_argument_of_data_is_refused_with_the_nearest(fresh):
    register_data("pairs")(PairData)
    assert create_data("pairs", size=4).size == 4
    assert "pairs" in list_data("PAIR*")
    with pytest.raises(OptionError, match=r"Did you mean 'size'"):
        create_data("pairs", sise=4)


def test_batches_that_differ_are_refused_naming_data_that_fit(fresh):
    make_model()
    register_data("pairs")(type("Pairs", (PairData,), {}))
    images = register_data("images")(type("Images", (PairData,), {"batch_type": ImageBatch}))
    data = images()
    with pytest.raises(MismatchError, match=r"PairBatch.*'images'.*ImageBatch.*fit: 'pairs'\."):
        create_model("tiny", data)
    assert data.calls == []


def test_data_that_are_no_data_module_are_refused(fresh):
    make_model()
    with pytest.raises(OptionError, match=r"not list"):
        create_model("tiny", [1, 2])


def test_every_file_of_models_and_data_can_be_read():
    assert registry.broken_plugins() == []
    entry = model_info("seq2seq_attn")
    assert (entry.family, entry.task, entry.paper) == ("seq2seq", "Translation", "1409.0473")
    assert entry.distribution == "dlarch"


# ---- other packages


def test_plugin_is_listed_without_being_imported(fresh, plugin):
    plugin()
    assert {"echo_linear", "echo_scaled"} <= set(list_models("echo*", task="Echo"))
    assert list_data("echo*") == ["echo"]
    entry = model_info("echo")
    assert (entry.name, entry.distribution, entry.paper) == (
        "echo_linear",
        "dlarch-echo",
        "0000.00000",
    )
    assert entry.summary == "Repeat a vector through one linear layer."
    assert model_info("echo_scaled").module == "dlarch_echo.model"  # through the re-export
    assert not [name for name in sys.modules if name.startswith("dlarch_echo")]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_package:Model", "there is no module 'no_such_package'"),
        ("dlarch_echo.missing:Model", "there is no module 'dlarch_echo.missing'"),
        ("dlarch_echo.model:Missing", "the module 'dlarch_echo.model' has no class 'Missing'"),
        ("dlarch_echo.broken:Model", "invalid syntax"),
        ("dlarch_echo.model:EchoLinear", "its decorator calls it 'echo_linear'"),
    ],
)
def test_broken_plugin_is_named_in_one_line_and_skipped(fresh, plugin, caplog, target, reason):
    folder = plugin(models={"echo_linear": "dlarch_echo.model:EchoLinear", "bad": target})
    (folder / "dlarch_echo" / "broken.py").write_text("class Model(:\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "dlarch"):
        names = list_models()
    assert "echo_linear" in names
    assert "seq2seq_attn" in names
    assert "bad" not in names
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("Skipped 'bad' of the package dlarch-echo: ")
    assert reason in line
    assert "\n" not in line
    assert registry.broken_plugins() == [line]


def test_plugin_with_a_built_in_name_is_skipped(fresh, plugin):
    plugin(models={"seq2seq_attn": "dlarch_echo.model:EchoScaled"})
    assert model_info("seq2seq_attn").distribution == "dlarch"
    assert "Seq2SeqAttn has its name" in registry.broken_plugins()[0]


def test_plugin_that_cannot_be_imported_is_named_when_it_is_asked_for(fresh, plugin, caplog):
    folder = plugin(models={}, data={"bad": "dlarch_bad:Data"})
    (folder / "dlarch_bad.py").write_text("import not_there\nclass Data: pass\n", encoding="utf-8")
    assert "bad" in list_data()
    with pytest.raises(UserError, match=r"'bad' of the package dlarch-echo.*not_there"):
        create_data("bad")
    # A search through all data goes on without it.
    make_model()
    register_data("pairs")(type("Pairs", (PairData,), {}))
    images = type("Images", (PairData,), {"batch_type": ImageBatch})
    with pytest.raises(MismatchError, match=r"fit: 'pairs'"):
        factory.check_batch_types(model_info("tiny").load(), images)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_plugin_with_its_own_batch_task_model_and_data_is_trained(
    fresh, plugin, monkeypatch, tmp_path
):
    plugin()
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    model = create_model("echo", create_data("echo", length=4), bias=False)
    assert [tuple(parameter.shape) for parameter in model.parameters()] == [(4, 4)]
    with pytest.raises(MismatchError, match=r"TranslationBatch.*EchoBatch.*fit: 'translation'"):
        create_model("seq2seq_attn", create_data("echo"))
    result = dlarch.fit(model, create_data("echo", length=4), max_epochs=20, accelerator="cpu")
    # An identity map can be learnt exactly; zero weights would score 1, the variance.
    assert result.metrics["test/loss"] < 0.05
