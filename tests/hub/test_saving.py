import json
import os
from importlib.metadata import version

import pytest
import torch
import yaml
from safetensors.torch import load_file

from dlarch.errors import CheckpointError, MismatchError, OptionError, RunError
from dlarch.hub import AutoModel, push_to_hub
from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn

FILES = {
    "README.md", "config.json", "model.safetensors", "processor.json",
    "source/tokenizer.json", "target/tokenizer.json",
}  # fmt: skip


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def card_of(folder):
    _, front, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_folder_holds_the_known_files_and_nothing_else(make_model, tmp_path):
    make_model().save_pretrained(tmp_path / "new" / "model")
    assert files_in(tmp_path) == {f"new/model/{name}" for name in FILES}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]
    modes = {path.stat().st_mode for path in (tmp_path / "new" / "model").glob("*.*")}
    assert len(modes) == 1  # who may read the config may read the weights


def test_the_config_is_plain_and_complete(make_model, tmp_path):
    model = make_model(cell="lstm")
    model.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["format"] == 1
    assert config["model"] == "seq2seq_attn"
    assert config["class"] == "dlarch.models.seq2seq.seq2seq_attn:Seq2SeqAttn"
    assert config["hparams"] == dict(model.hparams)
    assert config["processor"] == "translation"
    assert config["versions"].keys() == {"dlarch", "torch", "lightning"}


def test_the_card_tells_what_how_good_how_made_and_how_to_use(make_model, tmp_path):
    make_model().save_pretrained(
        tmp_path / "dates",
        metrics={"test/bleu": torch.tensor(31.41592), "test/exact_match": 0.5},
        command="dlarch fit --config recipes/seq2seq_attn.yaml",
        language=["fr", "en"],
        tags=["dates"],
    )
    front, body = card_of(tmp_path / "dates")
    assert front == {
        "library_name": "dlarch",
        "pipeline_tag": "translation",
        "language": ["fr", "en"],
        "tags": ["dlarch", "seq2seq_attn", "arxiv:1409.0473", "dates"],
    }
    assert Seq2SeqAttn.__doc__.partition("\n")[0] in body
    assert "https://arxiv.org/abs/1409.0473" in body
    assert "| test/bleu | 31.4159 |" in body
    assert "| test/exact_match | 0.5 |" in body
    assert "```sh\ndlarch fit --config recipes/seq2seq_attn.yaml\n```" in body
    assert 'AutoModel.from_pretrained("dates")' in body
    assert f"torch {version('torch')}" in body


def test_metrics_command_and_licence_outlive_loading_and_saving(make_model, tmp_path):
    model = make_model()
    model.provenance = {"metrics": {"test/bleu": 12.5}, "command": "dlarch fit --config mine"}
    model.save_pretrained(tmp_path / "a", license="mit")
    AutoModel.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    front, body = card_of(tmp_path / "b")
    assert front["license"] == "mit"
    assert "| test/bleu | 12.5 |" in body
    assert "dlarch fit --config mine" in body


def test_a_folder_can_be_written_again(make_model, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with torch.no_grad():
        model.output.bias += 1
    model.save_pretrained(tmp_path / "model")
    assert files_in(tmp_path) == {f"model/{name}" for name in FILES | {"notes.txt"}}
    loaded = AutoModel.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.output.bias, model.output.bias)
    model.processor = None
    model.save_pretrained(tmp_path / "model")
    assert AutoModel.from_pretrained(tmp_path / "model").processor is None
    assert not (tmp_path / "model" / "processor.json").exists()


def test_foreign_cards_are_kept_and_foreign_models_not_overwritten(make_model, tmp_path):
    (tmp_path / "README.md").write_text("# My project")
    make_model().save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "# My project"
    assert AutoModel.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(RunError, match="choose another folder"):
        make_model().save_pretrained(tmp_path)


def test_what_cannot_be_saved_is_said_before_anything_is_written(make_model, tmp_path):
    with pytest.raises(MismatchError, match="no layers yet"):
        Seq2SeqAttn().save_pretrained(tmp_path / "model")
    model = make_model()
    model.hparams["dropout"] = object()
    with pytest.raises(MismatchError, match=r"dropout=.*JSON"):
        model.save_pretrained(tmp_path / "model")
    with pytest.raises(OptionError, match="user/model"):
        push_to_hub(make_model(), "nobody")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(make_model, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises(RunError, match="Cannot write the pretrained folder"):
            make_model().save_pretrained(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_was_written_in_part_cannot_be_loaded(make_model, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "source" / "tokenizer.json").unlink()
    (tmp_path / "model" / "source").rmdir()
    (tmp_path / "model" / "source").write_text("in the way")
    with pytest.raises(RunError, match="Cannot write"):
        model.save_pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match="neither a pretrained folder"):
        AutoModel.from_pretrained(tmp_path / "model")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_without_permission_is_named(make_model, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="Cannot write"):
        make_model().save_pretrained(tmp_path / "model")


def test_a_failed_write_keeps_what_was_there(make_model, tmp_path, monkeypatch):
    model = make_model()
    model.save_pretrained(tmp_path / "model")
    before = load_file(tmp_path / "model" / "model.safetensors")

    def fail(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model.processor, "save", fail)
    with torch.no_grad():
        model.output.bias += 1
    with pytest.raises(RunError, match="No space left"):
        model.save_pretrained(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    after = AutoModel.from_pretrained(tmp_path / "model").state_dict()
    assert torch.equal(after["output.bias"], before["output.bias"])


def test_transformers_opens_the_tokenizer(make_model, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = make_model()
    model.save_pretrained(tmp_path / "model")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "model" / "source" / "tokenizer.json")
    )
    text = "le chat noir"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids == model.processor.source.encode(text)
    assert len(ids) == 12
