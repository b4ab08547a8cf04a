"""Bad input of every kind: one line on stderr with the way out, exit code 2, nothing lost."""

import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch

from dlarch import registry
from dlarch.cli import main as cli_main
from dlarch.data.base import DataModule
from dlarch.registry import register_data

from .conftest import dlarch, fingerprint, workplace


def refused(command: str) -> str:
    """The complaint about a command that must print nothing else and leave no run."""
    before = fingerprint(Path("runs")), set(Path("runs").glob("*/*"))
    outcome = dlarch(command)
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1, outcome.err
    assert (fingerprint(Path("runs")), set(Path("runs").glob("*/*"))) == before
    return outcome.complaint


TINY = "fit --config tiny"


@pytest.mark.parametrize(
    ("command", "pattern"),
    [
        # names
        ("fit --model seq2seq_atn --data translation", "no model 'seq2seq_atn'. Did you mean 'seq"),
        ("fit --model seq2seq_attn --data trnslation", "no data module .* mean 'translation'"),
        ("fit --config seq2seq_atn", "no recipe 'seq2seq_atn'. Did you mean 'seq2seq_attn'"),
        (f"{TINY} --model no.such.Class", "--model: .*no.such.Class.* No module named 'no'"),
        (f"{TINY} --model.optimizer Adan", "--model.optimizer: there is no class 'Adan'"),
        ("fit --model seq2seq_attn", "needs data: give --data NAME, .*Recipes .* seq2seq_attn"),
        ("fit", "Say what to fit: --config RECIPE, one of .*seq2seq_attn"),
        ("fit --model.hidden_size 3 --data translation", "Say what to fit"),
        # misspelt options
        (f"{TINY} --model.hiden_size 3", "no option --model.hiden_size. Did.*--model.hidden_size'"),
        (f"{TINY} --data.batch_sise 3", "no option --data.batch_sise. Did.*'--data.batch_size'"),
        (f"{TINY} --trainer.max_epoch 3", "--trainer.max_epoch. Did.*'--trainer.max_epochs'"),
        (f"{TINY} --trainer.max_ep=3", "no option --trainer.max_ep"),
        (f"{TINY} --model.optimizer.lrr 1", "--model.optimizer.lrr. Did.*'--model.optimizer.lr'"),
        (f"{TINY} --model.optimizer.init_args.lrr 1", "mean '--model.optimizer.lr'"),
        (f"{TINY} --tset_after_fit false", "--tset_after_fit. Did you mean '--test_after_fit'"),
        (f"{TINY} --trainr.max_epochs 1", "--trainr.max_epochs. Did.* '--trainer.max_epochs'"),
        (f"{TINY} max_epochs=3", "no use for 'max_epochs=3'"),
        # wrongly typed options
        (f"{TINY} --model.hidden_size four", "--model.hidden_size must be int, not 'four'"),
        (f"{TINY} --model.cell rnn", "--model.cell must be 'gru' or 'lstm', not 'rnn'"),
        (f"{TINY} --model.optimizer.lr x", "--model.optimizer.lr must be float.* not 'x'"),
        (f"{TINY} --data.batch_size 1.5", "--data.batch_size must be int, not '1.5'"),
        (f"{TINY} --data.columns fr", "--data.columns must be list, not 'fr'"),
        (f"{TINY} --trainer.max_epochs 3.5", "--trainer.max_epochs must be int, not '3.5'"),
        (f"{TINY} --seed_everything x", "--seed_everything must be bool or int, not 'x'"),
        (f"{TINY} --seed_everything -4", "-4 is not in bounds"),
        (f"{TINY} --test_after_fit perhaps", "--test_after_fit must be bool, not 'perhaps'"),
        (f"{TINY} --trainer.max_epochs", "--trainer.max_epochs needs a value"),
        ("fit --config", "--config needs a value"),
        ("fit --ckpt_path --config tiny", "--ckpt_path needs a value"),
        # options that only the Trainer, torch or the model can judge
        (f"{TINY} --trainer.devices 99", "would start 99 processes, .* has .* CPU cores"),
        (f"{TINY} --trainer.precision foo", "--trainer.precision must be .*'bf16-mixed'"),
        (f"{TINY} --trainer.max_epochs -5", "max_epochs.*-5"),
        (f"{TINY} --trainer.strategy foo", "invalid strategy name.*foo"),
        (f"{TINY} --trainer.accelerator foo", "foo"),
        (f"{TINY} --trainer.val_check_interval 5000", "val_check_interval.*5000"),
        (f"{TINY} --trainer.reload_dataloaders_every_n_epochs 1", "cannot be resumed exactly"),
        (f"{TINY} --model.optimizer.lr -1", "Invalid learning rate: -1"),
        (f"{TINY} --model.hidden_size -3", "must be at least 1"),
        (f"{TINY} --model.dropout 7", "7"),
        (f"{TINY} --save_every_n_steps 0", "at least 1, not 0"),
        (f"{TINY} --length_penalty 0.5", "length_penalty needs a beam of several hypotheses"),
        (f"{TINY} --beam 0", "beam must be a whole number from 1 up, not 0"),
        ("fit --config mlp --beam 3", "--beam is for models that translate: leave it out"),
        (f"{TINY} --monitor val/bleuu", "be 'val/bleuu', .* Did you mean 'val/bleu'"),
        (f"{TINY} --trainer.callbacks EarlyStopping --trainer.callbacks.monitor val/los",
         "be 'val/los', .* Did you mean 'val/loss'"),
        (f"{TINY} --trainer.default_root_dir elsewhere", "set DLARCH_RUNS to"),
        (f"{TINY} --trainer.barebones true", "barebones switches off .* leave it out"),
        (f"{TINY} --data.batch_size 0", "batch_size must be at least 1, not 0"),
        (f"{TINY} --data.train_size -1", "train_size must be at least 1, not -1"),
        # where the data come from
        (f"{TINY} --data.source missing.tsv", "No file or folder 'missing.tsv'"),
        (f"{TINY} --data.source pears.tsv", "Did you mean 'pairs.tsv'"),
        (f"{TINY} --data.source dats", "Did you mean 'dates'"),
        (f"{TINY} --data.source dates --data.source_language xx", "xx"),
        (f"{TINY} --model.loss torch.nn.MSELoss", "The loss MSELoss cannot score outputs"),
        (f"{TINY} --model.loss torch.nn.CrossEntropyLoss --model.loss.reduction none",
         "gives 3 numbers: set its reduction: mean"),
        (f"{TINY} --model.loss torch.nn.CrossEntropyLoss --model.loss.reduction sum",
         "is no mean over the examples"),
        (f"{TINY} --model.hidden_size 0", "must be at least 1"),
        (f"{TINY} --model.teacher_forcing 2", "are shares, 0 to 1"),
        (f"{TINY} --model.encoder_size", "--model.encoder_size needs a value"),
        ("fit tiny.yaml", "A recipe is given as --config tiny.yaml"),
        # checkpoints that are not there
        ("test --config sequence", "no recipe 'sequence'"),
        ("test --config seq2seq_attn", "no run in runs/seq2seq_attn"),
        ("fit --config seq2seq_attn --ckpt_path last", "no run in runs/seq2seq_attn"),
        ("fit --ckpt_path nowhere", "no checkpoint or run folder 'nowhere'"),
        ("translate nowhere hello", "no 'nowhere' here"),
        ("fit --config tiny --ckpt_path .", "has no last checkpoint"),
        (
            "fit --data.size 9 --model mlp --data toy_2d",
            "--data.size stands before the --data that it belongs to: give that first",
        ),
    ],
)  # fmt: skip
def test_one_line_names_the_mistake_and_the_way_out(trained, command, pattern):
    assert re.search(pattern, refused(command)), refused(command)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (b"model: [1,\n", "broken.yaml, line 2 is no YAML"),
        (b"model: seq2seq_attn\n\tdata: translation\n", "broken.yaml, line 2 is no YAML"),
        (b"- model\n", "must have the sections model, data and trainer"),
        (b"", "must have the sections model, data and trainer"),
        (b"\xff\xfe\x00m", "broken.yaml is not UTF-8"),
        (b"model: 5\ndata: translation\n", "`model` must be a name"),
        (b"model: [seq2seq_attn]\ndata: translation\n", "`model` must be a name"),
        (b"1: 2\n", "must have the sections"),
        (b"model: seq2seq_attn\n", "seq2seq_attn needs data"),
        (b"data: translation\n", "Say what to fit"),
        (b"model: seq2seq_attn\ndata: translatoin\n", "no data module 'translatoin'. Did you mean"),
        (b"model: seq2seq_attn\ndata: translation\ntrainr:\n", "section trainr. Did.* 'trainer'"),
        (b"model: seq2seq_attn\ndata: translation\ntrainer: {max_epoch: 3}\n",
         "--trainer.max_epoch. Did you mean '--trainer.max_epochs'"),
        (b"model: {class_path: seq2seq_attn, init_args: {hiden_size: 3}}\ndata: translation\n",
         "--model.hiden_size. Did you mean '--model.hidden_size'"),
        (b"model: {class_path: seq2seq_attn, init_args: {hidden_size: [3]}}\ndata: translation\n",
         "--model.hidden_size must be int, not '.3.'"),
        (b"model: {class_path: seq2seq_attn, init_arg: {cell: gru}}\ndata: translation\n",
         "unknown key init_arg. Did you mean 'init_args'"),
        (b"model: {class_path: seq2seq_attn, hidden_size: 3}\ndata: translation\n",
         "put hidden_size of model under init_args"),
        (b"model: seq2seq_attn\ndata: translation\ntrainer: {callbacks: [{class_path: "
         b"EarlyStopping, init_args: {monitr: x}}]}\n", "mean '--trainer.callbacks.monitor'"),
        (b"model: seq2seq_attn\ndata: translation\ntrainer: {callbacks: [EarlyStoping]}\n",
         "--trainer.callbacks: there is no class 'EarlyStoping'"),
    ],
)  # fmt: skip
def test_broken_recipe(here, text, pattern):
    Path("broken.yaml").write_bytes(text)
    assert re.search(pattern, refused("fit --config broken.yaml")), refused("fit --config broken")


def test_an_optimizer_that_cannot_train_the_model(cli, here):
    complaint = cli(f"{TINY} --model.optimizer torch.optim.SparseAdam").complaint
    assert "The optimizer cannot train this model: SparseAdam does not support" in complaint


def test_recipe_that_is_a_folder(here):
    Path("folder.yaml").mkdir()
    assert "folder.yaml" in refused("fit --config folder.yaml")


@pytest.mark.parametrize(
    ("name", "content", "pattern"),
    [
        ("empty.tsv", b"", "empty.tsv holds no rows"),
        ("latin.tsv", b"abc\tdef\n" * 9 + b"\xe9t\xe9\tsummer\n", "latin.tsv, line 10: byte 0xe9"),
        ("columns.tsv", b"abc\tdef\n" * 6 + b"abc\tdef\tghi\n", "columns.tsv, line 7: 3 columns"),
        ("short.tsv", b"abc\tdef\n" * 3 + b"abc\n", "short.tsv, line 4: 1 column instead of 2"),
        ("header.tsv", b"de\ten\nab\tba\n", "header.tsv has no column 'fr' .*de, en"),
        ("few.tsv", b"abc\tdef\n", "no (validation|test|train) pairs"),
        ("keys.jsonl", b'{"de": "x", "en": "y"}\n', "keys.jsonl, line 1: no key 'fr'"),
        ("some.xyz", b"a\tb\n", "some.xyz ends in '.xyz'"),
    ],
)
def test_broken_data(here, name, content, pattern):
    Path(name).write_bytes(content)
    assert re.search(pattern, refused(f"{TINY} --data.source {name}"))


def test_unknown_column(here):
    message = refused(f"{TINY} --data.columns [fr,english]")
    assert "no column 'en' by the option columns (fr, english)" in message


def test_no_network_and_no_local_copy(here, monkeypatch):
    # The hub's library reads its address at import: hence a process of its own.
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "dlarch", *TINY.split(), "--data.source", "nobody/nothing"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "Hub cannot be reached; place it at $DLARCH_DATA/nobody/nothing" in line


class Marker:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_checkpoints_that_cannot_be_used(trained, here):
    whole = trained.run.last.read_bytes()
    Path("truncated.ckpt").write_bytes(whole[: len(whole) // 2])
    Path("foreign.ckpt").write_bytes(b"something else")
    torch.save({"state_dict": {}}, "plain.ckpt")
    torch.save([1, 2], "list.ckpt")
    torch.save({"dlarch": Marker()}, "code.ckpt")
    Path("raw.ckpt").write_bytes(pickle.dumps(Marker()))
    with zipfile.ZipFile(trained.run.last) as old, zipfile.ZipFile("inner.ckpt", "w") as new:
        for item in old.infolist():
            evil = item.filename.endswith("data.pkl")
            new.writestr(item, pickle.dumps(Marker()) if evil else old.read(item))
    Path("empty.ckpt").touch()
    expected = {
        "truncated": "truncated or damaged",
        "foreign": "no PyTorch checkpoint",
        "plain": "not of a dlarch model",
        "list": "no Lightning checkpoint",
        "code": "would run code",
        "raw": "would run code",
        "inner": "would run code",
        "empty": "no PyTorch checkpoint",
        "missing": "no checkpoint or run folder",
    }
    for name, reason in expected.items():
        for verb in ("fit", "test", "fit --config tiny", "predict"):
            assert reason in refused(f"{verb} --ckpt_path {name}.ckpt"), (verb, name)
    assert "would run code" in refused("translate code.ckpt hello")
    assert not Path("executed").exists()


def test_checkpoint_of_a_newer_dlarch(trained, here):
    checkpoint = torch.load(trained.run.last, weights_only=True)
    checkpoint["dlarch"]["format"] = 99
    torch.save(checkpoint, "newer.ckpt")
    assert "update dlarch" in refused("test --ckpt_path newer.ckpt")


class OtherBatch(NamedTuple):
    """No batch of sentence pairs."""

    words: list[str]


class ThrowAway(DataModule):
    """Must not be built."""

    batch_type = OtherBatch

    def __init__(self) -> None:
        raise AssertionError("built")


def test_model_and_data_that_do_not_fit(here, monkeypatch):
    monkeypatch.setitem(registry._registered, "data", {})
    module = ModuleType("throw_away_data")
    monkeypatch.setitem(sys.modules, "throw_away_data", module)
    ThrowAway.__module__ = "throw_away_data"
    module.ThrowAway = register_data("throw_away")(ThrowAway)
    message = refused("fit --model seq2seq_attn --data throw_away")
    assert "'seq2seq_attn' takes batches of type TranslationBatch" in message
    assert "'throw_away' have OtherBatch" in message
    assert "Data that fit: 'translation'" in message


def test_run_folder_that_cannot_be_written(here, monkeypatch):
    Path("in_the_way").write_text("a file")
    monkeypatch.setenv("DLARCH_RUNS", "in_the_way")
    message = refused(TINY)
    assert "Cannot write the run folder in_the_way/tiny" in message
    assert "Set DLARCH_RUNS" in message
    assert Path("in_the_way").read_text() == "a file"


def test_loss_that_is_not_finite_keeps_the_last_checkpoint(here):
    outcome = dlarch(f"{TINY} --model.optimizer.lr 1e30 --save_every_n_steps 1")
    assert re.search(r"loss is not finite at step \d+ \(epoch 0, batch \d+\)", outcome.complaint)
    assert "the last checkpoint is kept" in outcome.complaint
    (run,) = (path for path in Path("runs/tiny").glob("*") if "1.0e+30" in _config(path))
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] >= 1
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())


def _config(run: Path) -> str:
    return (run / "config.yaml").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no resource limits")
def test_full_disk(trained, here):
    # A limit on the size of files stands for it: writing fails in the same places, with OSError.
    import resource
    import signal

    size = trained.run.last.stat().st_size
    before = fingerprint(trained.run.folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
    try:
        outcome = dlarch(f"fit --ckpt_path {trained.run.folder} --trainer.max_epochs 2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "cannot be written (File too large)" in outcome.complaint
    after = fingerprint(trained.run.folder)
    kept = {name: value for name, value in before.items() if name.endswith(".ckpt")}
    assert {name: after[name] for name in kept} == kept
    assert not list(trained.run.folder.rglob("*.tmp"))
    resumed = dlarch(f"fit --ckpt_path {trained.run.folder} --trainer.max_epochs 2")
    assert resumed.code == 0


def test_traceback_only_when_debugging(here, monkeypatch):
    monkeypatch.setenv("DLARCH_DEBUG", "1")
    with pytest.raises(Exception, match="must be int, not 'four'"):
        cli_main.main([*TINY.split(), "--model.hidden_size", "four"])


def test_a_bug_in_a_step_keeps_its_traceback(here, monkeypatch):
    from dlarch.tasks import Translation

    def training_step(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Translation, "training_step", training_step)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        dlarch(TINY)


def test_errors_are_the_same_in_an_empty_folder(cache, tmp_path):
    with workplace(tmp_path, cache):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        assert "There is no run in runs" in refused("test")
