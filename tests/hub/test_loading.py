import json
import pickle
from pathlib import Path

import lightning as L  # noqa: N812
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from dlarch.errors import CheckpointError, OptionError
from dlarch.hub import AutoModel, load_processor_of, load_spec
from dlarch.hub.stored import RENAMED_ARGUMENTS
from dlarch.spec import DataSpec

SOURCES = ["le chat noir", "deux", "é"]
SHORT = {"beam": 2, "max_length": 6}


def write_checkpoint(model, path):
    checkpoint = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "dlarch": {
            "format": 1,
            "model": "seq2seq_attn",
            "class": "dlarch.models.seq2seq.seq2seq_attn:Seq2SeqAttn",
            "processor": model.processor.to_dict() if model.processor is not None else None,
            "spec": {"source_vocab_size": 19, "fingerprint": "abc"},
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, path)
    return checkpoint


def edit_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(config))
    return config


def refusal(where, *args, **overrides):
    with pytest.raises(CheckpointError) as caught:
        AutoModel.from_pretrained(where, *args, **overrides)
    return str(caught.value)


@pytest.fixture
def folder(make_model, tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tie_weights": True},
        {"cell": "lstm", "encoder_layers": 2, "dropout": 0.5, "attention_size": 3},
    ],
)
def test_a_folder_gives_back_weights_outputs_and_processor(make_model, tmp_path, options):
    model = make_model(**options).eval()
    model.save_pretrained(tmp_path / "model")
    torch.manual_seed(7)
    state = torch.get_rng_state()

    loaded = AutoModel.from_pretrained(tmp_path / "model")

    assert torch.equal(torch.get_rng_state(), state)
    assert not loaded.training
    assert dict(loaded.hparams) == dict(model.hparams)
    ours, theirs = loaded.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    batch = model.processor.encode([("le chat", "the cat"), ("deux chiens noir", "two")])
    for mine, other in zip(
        loaded(batch.source, batch.target), model(batch.source, batch.target), strict=True
    ):
        assert torch.equal(mine, other)
    assert loaded.processor == model.processor
    assert loaded.translate(SOURCES, **SHORT) == model.translate(SOURCES, **SHORT)


def test_tied_weights_stay_tied_and_are_stored_once(make_model, tmp_path):
    make_model(tie_weights=True).save_pretrained(tmp_path / "model")
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert ("output.weight" in stored) != ("target_embedding.weight" in stored)
    loaded = AutoModel.from_pretrained(tmp_path / "model")
    assert loaded.output.weight is loaded.target_embedding.weight


def test_weights_that_are_parts_of_one_buffer_are_all_stored(make_model, tmp_path):
    model = make_model(cell="lstm")  # as cuDNN lays out the weights of its recurrent layers
    parameters = list(model.encoder.parameters())
    buffer = torch.cat([parameter.detach().flatten() for parameter in parameters])
    for parameter, part in zip(
        parameters, buffer.split([p.numel() for p in parameters]), strict=True
    ):
        parameter.data = part.view(parameter.shape)
    model.save_pretrained(tmp_path / "model")
    ours = AutoModel.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(ours[name], theirs) for name, theirs in model.state_dict().items())


def test_arguments_can_be_overridden_unless_shapes_change(folder):
    assert AutoModel.from_pretrained(folder, dropout=0.25).dropout.p == 0.25
    with pytest.raises(OptionError, match=r"no option 'dropuot'.*'dropout'"):
        AutoModel.from_pretrained(folder, dropuot=0.25)
    message = refusal(folder, attention_size=3)
    assert "query.weight (7, 7) instead of (3, 7)" in message
    assert "lack target_embedding" not in message


def test_a_run_gives_its_best_checkpoint_else_its_last(make_model, tmp_path, monkeypatch):
    run = tmp_path / "runs" / "dates" / "2026-11-23_04-51-07"
    best, last = make_model(), make_model()
    with torch.no_grad():
        last.output.bias += 1
    write_checkpoint(last, run / "checkpoints" / "last.ckpt")
    metrics = {"metrics": {"test/bleu": 12.5}, "command": "dlarch fit --config dates", "seed": 1}
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert torch.equal(AutoModel.from_pretrained(run).output.bias, last.output.bias)

    write_checkpoint(best, run / "checkpoints" / "best.ckpt")
    loaded = AutoModel.from_pretrained(run)
    assert torch.equal(loaded.output.bias, best.output.bias)
    assert loaded.translate(SOURCES, **SHORT) == best.translate(SOURCES, **SHORT)
    assert loaded.provenance == {
        "metrics": {"test/bleu": 12.5}, "command": "dlarch fit --config dates"
    }  # fmt: skip

    other = AutoModel.from_pretrained(run / "checkpoints" / "last.ckpt")
    assert torch.equal(other.output.bias, last.output.bias)
    assert other.provenance == {}  # the metrics are of the best

    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    for where in ("dates/2026-11-23_04-51-07", "best", run / "checkpoints"):
        assert torch.equal(AutoModel.from_pretrained(where).output.bias, best.output.bias)


def test_a_checkpoint_of_a_trainer_is_read(make_model, tmp_path):
    model = make_model(pictures=False)
    batches = [model.processor.encode([("le chat", "the cat"), ("deux", "two")])]
    trainer = L.Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, DataLoader(batches, batch_size=None))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = AutoModel.from_pretrained(tmp_path / "a.ckpt")
    assert loaded.translate(SOURCES, **SHORT) == model.translate(SOURCES, **SHORT)
    assert not torch.equal(loaded.output.bias, make_model().output.bias)
    assert load_spec(tmp_path / "a.ckpt") is None  # it met no data module


def test_a_damaged_metrics_file_does_not_stand_in_the_way(make_model, tmp_path):
    write_checkpoint(make_model(), tmp_path / "checkpoints" / "best.ckpt")
    (tmp_path / "metrics.json").write_text('{"metrics": {')
    assert AutoModel.from_pretrained(tmp_path).provenance == {}


def test_processor_and_spec_are_read_without_the_weights(make_model, tmp_path, folder):
    model = make_model()
    (folder / "model.safetensors").unlink()
    assert load_processor_of(folder) == model.processor
    assert load_spec(folder).facts() == {
        "source_vocab_size": model.hparams.source_vocab_size,
        "target_vocab_size": model.hparams.target_vocab_size,
    }
    write_checkpoint(model, tmp_path / "a.ckpt")
    assert load_processor_of(tmp_path / "a.ckpt") == model.processor
    assert load_spec(tmp_path / "a.ckpt") == DataSpec(source_vocab_size=19, fingerprint="abc")
    model.processor = None
    write_checkpoint(model, tmp_path / "b.ckpt")
    assert load_processor_of(tmp_path / "b.ckpt") is None


def test_renamed_arguments_are_mapped(folder, tmp_path, make_model, monkeypatch):
    hparams = edit_config(folder)["hparams"]
    hparams["units"] = hparams.pop("hidden_size")
    edit_config(folder, hparams=hparams)
    assert "no option 'units'" in refusal(folder)
    monkeypatch.setitem(RENAMED_ARGUMENTS, ("seq2seq_attn", "units"), "hidden_size")
    assert AutoModel.from_pretrained(folder).hparams.hidden_size == 7


# ---- what is refused


def test_nothing_there_says_what_to_give(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "such as 'user/model'" in refusal("nothing")
    assert "neither a pretrained folder" in refusal(tmp_path)
    with pytest.raises(OptionError, match="revision belongs"):
        AutoModel.from_pretrained(tmp_path, revision="main")


def lose_one(weights):
    del weights["output.bias"]


def gain_one(weights):
    weights["outputs.bias"] = torch.zeros(2)


def reshape_one(weights):
    weights["key.bias"] = torch.zeros(2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lose_one, "they lack output.bias."),
        (gain_one, "they have unknown outputs.bias."),
        (reshape_one, "they have key.bias (2,) instead of (7,)."),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, change, told):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    assert refusal(folder) == f"The weights in {folder} do not fit seq2seq_attn: {told}"


def test_a_truncated_or_missing_file_is_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "model.safetensors cannot be read" in refusal(folder)
    path.write_bytes(b"")
    assert "model.safetensors cannot be read" in refusal(folder)
    path.unlink()
    assert "model.safetensors does not exist" in refusal(folder)


def test_a_missing_processor_is_named(folder):
    (folder / "source" / "tokenizer.json").unlink()
    assert "tokenizer.json does not exist" in refusal(folder)


def test_facts_that_are_null_never_make_a_model_without_layers(folder):
    hparams = edit_config(folder)["hparams"]
    edit_config(folder, hparams=hparams | {"target_vocab_size": None})
    assert "does not say target_vocab_size" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": 2}, "format 2.*reads up to 1: update"),
        ({"format": None}, "was not written by dlarch"),
        ({"class": None}, "was not written by dlarch"),
        ({"hparams": []}, "'hparams' cannot be used"),
        ({"spec": 3}, "'spec' cannot be used"),
        ({"provenance": {"metrics": []}}, "'metrics' of its provenance"),
        ({"model": "gone", "class": "gone_package:Gone"}, "no module 'gone_package'"),
        ({"model": None, "class": "json:JSONDecoder"}, "not the class of a model"),
        ({"model": None, "class": "nonsense"}, "cannot be imported"),
    ],
)
def test_a_foreign_damaged_or_newer_config_is_refused(folder, changes, told):
    edit_config(folder, **changes)
    with pytest.raises(CheckpointError, match=told):
        AutoModel.from_pretrained(folder)


def test_a_config_of_transformers_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"], "hidden_size": 8}')
    assert "was not written by dlarch" in refusal(tmp_path)


def test_unknown_and_impossible_arguments_are_refused(folder):
    hparams = edit_config(folder)["hparams"]
    edit_config(folder, hparams=hparams | {"drop_out": 0.1})
    assert "Did you mean 'dropout'" in refusal(folder)
    edit_config(folder, hparams=hparams | {"hidden_size": "wide"})
    assert "cannot be made with its arguments" in refusal(folder)


@pytest.mark.parametrize("part", ["dlarch", "state_dict", "hyper_parameters"])
def test_a_checkpoint_without_one_of_its_parts_is_refused(make_model, tmp_path, part):
    checkpoint = write_checkpoint(make_model(), tmp_path / "a.ckpt")
    del checkpoint[part]
    torch.save(checkpoint, tmp_path / "a.ckpt")
    assert str(tmp_path / "a.ckpt") in refusal(tmp_path / "a.ckpt")


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_with_code_is_refused_and_not_run(make_model, tmp_path):
    trace = tmp_path / "trace"
    checkpoint = write_checkpoint(make_model(), tmp_path / "a.ckpt")
    torch.save(checkpoint | {"extra": Touch(trace)}, tmp_path / "a.ckpt")
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps(Touch(trace)))
    for name in ("a.ckpt", "b.ckpt"):
        assert "run code" in refusal(tmp_path / name)
        with pytest.raises(CheckpointError):
            load_processor_of(tmp_path / name)
        assert not trace.exists()


NET = """
from pathlib import Path
Path({trace!r}).touch()
from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn
class Net(Seq2SeqAttn):
    pass
"""


def test_code_beside_the_weights_is_not_run(folder, tmp_path, monkeypatch):
    trace = tmp_path / "trace"
    (folder / "net_beside.py").write_text(NET.format(trace=str(trace)))
    monkeypatch.syspath_prepend(folder)
    edit_config(folder, model=None, **{"class": "net_beside:Net"})
    assert "not run" in refusal(folder)
    assert not trace.exists()


def test_a_module_without_the_class_is_not_run(folder, tmp_path, monkeypatch):
    trace = tmp_path / "trace"
    (tmp_path / "lonely_script.py").write_text(NET.format(trace=str(trace)))
    monkeypatch.syspath_prepend(tmp_path)
    edit_config(folder, model=None, **{"class": "lonely_script:Other"})
    assert "has no class 'Other'" in refusal(folder)
    assert not trace.exists()


def test_a_class_that_is_not_registered_is_found_by_its_path(folder, tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text(NET.format(trace=str(tmp_path / "trace")))
    monkeypatch.syspath_prepend(tmp_path)
    edit_config(folder, model=None, **{"class": "own_net:Net"})
    loaded = AutoModel.from_pretrained(folder)
    assert type(loaded).__name__ == "Net"
    loaded.save_pretrained(tmp_path / "again")  # not under the name of its parent
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert (config["model"], config["class"]) == (None, "own_net:Net")
