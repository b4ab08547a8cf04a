import html
import logging
import re

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from tensorboard.plugin_util import markdown_to_safe_html

from dlarch.callbacks.protocols import TranslationSample
from dlarch.callbacks.translations import TranslationTable, translation_table


def plain(source, reference, translation):
    return TranslationSample(source, reference, translation, reference == translation, [], [])


PAIRS = [plain("un", "one", "one"), plain("deux", "two", "too"), plain("trois", "three", "three")]


@pytest.mark.parametrize(
    "text",
    [
        "a | b",
        "<unk> & <b>bold</b> <em>x</em> &amp;",
        "*one* _two_ __three__ `four` [five](http://six)",
        r"back\slash \| \* {x}",
        "1. Mai 1997",
        "# no heading",
        "",
        "été, 日本",
    ],
)
def test_tensorboard_shows_text_as_it_was_written(text):
    page = markdown_to_safe_html(translation_table([plain(text, "reference", text)]))
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page, re.S)
    cells = [html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in cells]  # what is seen
    assert cells == [text, "reference", text, ""]


def test_line_breaks_do_not_end_a_row():
    table = translation_table([plain("two\nlines", "r", "t")])
    assert table.splitlines()[2:] == ["| two lines | r | t |  |"]


def test_exact_translations_are_marked():
    marks = [row.split("|")[4].strip() for row in translation_table(PAIRS).splitlines()[2:]]
    assert marks == ["✓", "", "✓"]


def test_each_validation_of_a_fit_writes_one_table(runs, translator):
    model = translator(PAIRS)
    runs.fit(model, TranslationTable(count=2))
    events = runs.events.Tensors("samples/translations/text_summary")
    assert [event.step for event in events] == [4, 8]  # not the sanity check
    table = translation_table(PAIRS[:2])
    assert {event.tensor_proto.string_val[0].decode() for event in events} == {table}
    files = sorted((runs.folder / "samples").iterdir())
    assert [file.name for file in files] == ["step_0000004.md", "step_0000008.md"]
    assert files[1].read_text(encoding="utf-8") == "Step 8: 1 of 2 exact\n\n" + table


def test_showing_translations_does_not_change_training(runs, translator):
    shown, alone = translator(PAIRS), translator(PAIRS)
    alone.load_state_dict(shown.state_dict())
    runs.fit(shown, TranslationTable())
    runs.fit(alone)
    assert shown.asked == [4, 8]
    assert all(map(torch.equal, shown.parameters(), alone.parameters()))


def test_nothing_is_translated_that_nobody_sees(runs, translator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = translator(PAIRS)
    runs.fit(model, TranslationTable(), logger=CSVLogger(tmp_path / "csv"), default_root_dir=None)
    runs.fit(model, TranslationTable(), fast_dev_run=True)
    runs.trainer(TranslationTable()).validate(model, verbose=False)
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    runs.fit(model, TranslationTable(), logger=False)
    assert model.asked == []
    assert not list(tmp_path.rglob("samples"))


def test_a_model_without_translations_trains_as_ever(runs, task):
    assert runs.fit(task(), TranslationTable()).global_step == 8
    assert not (runs.folder / "samples").exists()


def test_a_table_that_cannot_be_written_does_not_end_training(runs, translator, caplog):
    runs.folder.mkdir()
    (runs.folder / "samples").write_text("in the way")
    with caplog.at_level(logging.WARNING, logger="dlarch"):
        trainer = runs.fit(translator(PAIRS), TranslationTable())
    assert trainer.global_step == 8
    assert "step_0000004.md" in caplog.text
