"""`dlarch.fit`: what `dlarch fit` does, from Python."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import optim

import dlarch
from dlarch import training
from dlarch.cli.main import main
from dlarch.errors import MismatchError, OptionError, UnknownNameError
from dlarch.run_files import RunResult

SIZES = {"embedding_size": 8, "encoder_size": 8, "hidden_size": 8, "pictures": False}


def adam(parameters):
    return optim.Adam(parameters, lr=0.01)


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("here")
    letters = random.Random(0)
    words = ["".join(letters.choices("abcdefgh", k=letters.randint(2, 6))) for _ in range(300)]
    (folder / "pairs.tsv").write_text("".join(f"{word}\t{word[::-1]}\n" for word in words))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DLARCH_CACHE", str(folder / "cache"))
        patch.delenv("DLARCH_RUNS", raising=False)
        yield folder


def pairs(**options):
    return dlarch.create_data(
        "translation", source="pairs.tsv", tokens="characters", batch_size=32, **options
    )


def fit(model=None, data=None, **options) -> RunResult:
    seed_everything(1)
    data = data or pairs()
    model = model or dlarch.create_model("seq2seq_attn", data, optimizer=adam, **SIZES)
    usual = {"max_epochs": 1, "log_every_n_steps": 5, "enable_progress_bar": False}
    return dlarch.fit(model, data, accelerator="cpu", **usual | options)


def weights(result: RunResult) -> dict[str, torch.Tensor]:
    return torch.load(result.run.last, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def result(here) -> RunResult:
    return fit()


def test_result_tells_what_the_run_folder_holds(result):
    assert result.run.folder.parent == Path("runs/seq2seq_attn")
    record = json.loads(result.run.metrics.read_text())
    assert record["metrics"] == result.metrics
    assert {"train/loss", "val/loss", "test/bleu"} <= set(result.metrics)
    assert (result.best_epoch, result.stopped_epoch, result.stopped_early) == (0, 0, False)
    assert len(result.samples) == 8
    assert all(sample.source == sample.reference[::-1] for sample in result.samples)
    assert record["recipe"] is None
    assert record["model"] == "seq2seq_attn"
    assert record["data"] == "translation"
    assert record["parameters"] == sum(tensor.numel() for tensor in weights(result).values())
    assert not result.run.config.exists()  # nothing that a command line could repeat


def test_the_command_line_makes_the_same_kind_of_run(result, here):
    Path("same.yaml").write_text(
        "seed_everything: 1\n"
        f"model: {{class_path: seq2seq_attn, init_args: {json.dumps(SIZES)}}}\n"
        "data: {class_path: translation, init_args: {source: pairs.tsv, tokens: characters, "
        "batch_size: 32}}\n"
        "trainer: {max_epochs: 1, accelerator: cpu, log_every_n_steps: 5}\n"
    )
    words = ["--model.optimizer", "torch.optim.Adam", "--model.optimizer.lr", "0.01"]
    assert main(["fit", "--config", "same", *words]) == 0
    (run,) = Path("runs/same").glob("*")
    theirs = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    # There the model is built inside fit, after other draws: only the shapes are the same.
    assert {n: t.shape for n, t in theirs.items()} == {
        n: t.shape for n, t in weights(result).items()
    }
    record = json.loads((run / "metrics.json").read_text())
    assert record["metrics"].keys() == result.metrics.keys()


def test_names_do_for_objects(here):
    result = dlarch.fit(
        "seq2seq_attn", pairs(), name="by/name", accelerator="cpu", max_steps=1,
        limit_val_batches=1, test_after_fit=False, enable_progress_bar=False,
    )  # fmt: skip
    assert result.run.folder.parent == Path("runs/by/name")
    assert not [name for name in result.metrics if name.startswith("test/")]
    with pytest.raises(UnknownNameError, match="Did you mean 'seq2seq_attn'"):
        dlarch.fit("seq2seq_atn", pairs())


def test_a_run_goes_on_in_its_folder_as_if_it_had_not_stopped(result):
    whole = fit(max_epochs=2)
    part = fit()
    more = fit(ckpt_path=part.run.folder, max_epochs=2)
    assert more.run.folder.samefile(part.run.folder)
    assert all(torch.equal(tensor, weights(more)[name]) for name, tensor in weights(whole).items())
    assert more.metrics == whole.metrics
    assert more.stopped_epoch == 1


def test_a_bare_trainer_trains_the_same_weights(result, tmp_path):
    seed_everything(1)
    data = pairs()
    model = dlarch.create_model("seq2seq_attn", data, optimizer=adam, **SIZES)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_checkpointing=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    ours = model.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in weights(result).items())


def test_what_is_given_is_used_instead(here, tmp_path):
    mine = ModelCheckpoint(tmp_path / "mine", monitor="val/loss", save_top_k=1)
    logger = CSVLogger(tmp_path / "csv")
    result = fit(callbacks=[mine], logger=logger)
    assert Path(mine.best_model_path).is_file()
    assert not result.run.best.exists()
    assert result.run.last.is_file()
    assert not result.run.logs.exists()
    assert list((tmp_path / "csv").rglob("metrics.csv"))


def test_monitor_decides_what_is_best(here):
    result = fit(monitor="val/token_accuracy", max_epochs=2)
    (state,) = [
        state
        for state in torch.load(result.run.best, weights_only=True)["callbacks"].values()
        if "best_model_score" in state
    ]
    assert state["monitor"] == "val/token_accuracy"


def test_mistakes_leave_no_run(here):
    class Other(tuple):
        pass

    data = pairs()
    model = dlarch.create_model("seq2seq_attn", data, **SIZES)
    before = set(Path("runs").rglob("*"))
    with pytest.raises(OptionError, match="99 processes"):
        fit(model, data, devices=99)
    with pytest.raises(Exception, match="max_epochs"):
        fit(model, data, max_epochs=-5)
    with pytest.raises(OptionError, match="cannot be resumed exactly"):
        fit(model, data, reload_dataloaders_every_n_epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(data), "batch_type", Other)
        with pytest.raises(MismatchError, match="takes batches of type TranslationBatch"):
            fit(model, data)
    assert set(Path("runs").rglob("*")) == before


def test_a_refused_resume_leaves_the_run_as_it_was(result):
    before = {path: path.read_bytes() for path in result.run.folder.rglob("*") if path.is_file()}
    other = dlarch.create_model("seq2seq_attn", **{**SIZES, "hidden_size": 9})
    with pytest.raises(MismatchError, match="hidden_size is 9 here and 8 in the checkpoint"):
        fit(other, pairs(), ckpt_path=result.run.folder, max_epochs=2)
    with pytest.raises(OptionError, match="val/bleuu"):
        fit(ckpt_path=result.run.folder, max_epochs=2, monitor="val/bleuu")
    after = {path: path.read_bytes() for path in result.run.folder.rglob("*") if path.is_file()}
    assert after == before


def files() -> set[Path]:
    return set(Path("runs").rglob("*"))


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"monitor": "val/bleuu"}, "'val/bleuu', .*Did you mean 'val/bleu'.* It logs train/loss, "),
        ({"monitor": "val/bleuu", "fast_dev_run": 1}, "'val/bleuu'"),
        ({"monitor": "val/bleuu", "num_sanity_val_steps": 0}, "'val/bleuu'"),
        ({"callbacks": EarlyStopping("val/los")}, "'val/los', .*Did you mean 'val/loss'"),
        ({"callbacks": [ModelCheckpoint(monitor="test/loss")]}, "'test/loss', .*Did you mean '"),
    ],
)
def test_a_metric_that_is_not_logged_is_refused_before_the_first_step(here, options, pattern):
    class Steps(Callback):
        taken = 0

        def on_train_batch_start(self, *_):
            self.taken += 1

    before, steps = files(), Steps()
    given = options.get("callbacks", [])
    callbacks = [*(given if isinstance(given, list) else [given]), steps]
    with pytest.raises(OptionError, match=pattern):
        fit(**{**options, "callbacks": callbacks})
    assert steps.taken == 0
    assert files() == before


def test_a_metric_that_only_a_validation_shows_can_be_monitored_and_resumed(here):
    class Extra(Callback):
        def on_validation_epoch_end(self, _, module):
            module.log("val/extra", 1.0)

    stop = {"limit_val_batches": 1, "limit_test_batches": 1}
    part = fit(monitor="val/extra", max_steps=2, callbacks=[Extra()], **stop)
    assert not part.run.best.exists()  # there was no validation yet
    more = fit(monitor="val/extra", callbacks=[Extra()], ckpt_path=part.run.folder, **stop)
    assert more.run.folder.samefile(part.run.folder)
    assert part.run.best.is_file()


def test_record_keeps_the_first_command_and_adds_up_the_minutes(here, monkeypatch):
    monkeypatch.setattr("sys.argv", ["first.py"])
    short = {"limit_test_batches": 1, "limit_val_batches": 1}
    part = fit(max_steps=1, **short)
    assert "resumed" not in json.loads(part.run.metrics.read_text())
    checkpoint = torch.load(part.run.last, weights_only=True)
    state = checkpoint["callbacks"]["RunFiles"]
    assert 0 < state["minutes"] <= part.minutes
    state["minutes"] = 100.0  # of a long run
    torch.save(checkpoint, part.run.last)
    for limit, name in ((2, "first.py"), (3, "second.py"), (4, "second.py")):
        monkeypatch.setattr("sys.argv", [name, "--more"] if name == "second.py" else [name])
        result = fit(max_steps=limit, ckpt_path=part.run.folder, **short)
    record = json.loads(part.run.metrics.read_text())
    assert record["command"] == "first.py"
    assert record["resumed"] == ["second.py --more"]
    assert 100 < result.minutes < 110
    assert record["minutes"] == pytest.approx(result.minutes, abs=0.01)


def test_a_folder_called_checkpoints_is_no_run(result, here):
    Path("checkpoints").mkdir()
    copy = Path("checkpoints/copy.ckpt")
    copy.write_bytes(result.run.last.read_bytes())
    before = {path for path in here.iterdir() if path.name != "runs"}
    more = fit(ckpt_path=copy, max_epochs=2, limit_val_batches=1, limit_test_batches=1)
    assert more.run.folder.parent == Path("runs/seq2seq_attn")
    assert not more.run.folder.samefile(result.run.folder)
    assert {path for path in here.iterdir() if path.name != "runs"} == before
    assert [path.name for path in Path("checkpoints").iterdir()] == ["copy.ckpt"]


def test_options_that_would_take_a_run_its_files_are_refused(here):
    before = files()
    with pytest.raises(OptionError, match="set DLARCH_RUNS to"):
        fit(default_root_dir="elsewhere")
    with pytest.raises(OptionError, match="barebones switches off"):
        fit(barebones=True)
    assert files() == before


@pytest.mark.parametrize(
    ("monitor", "direction"),
    [("val/loss", "min"), ("val/rmse", "min"), ("val/mae", "min"), ("val/perplexity", "min"),
     ("val/accuracy", "max"), ("val/exact_match", "max")],
)  # fmt: skip
def test_errors_are_better_the_lower_they_are(monitor, direction):
    assert training._watched(None, monitor) == (monitor, direction)


def test_the_training_split_is_scored_with_the_tested_weights_and_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    data = dlarch.create_data("digits", train_size=200, batch_size=20, rotate=40.0, shift=0.2)
    model = dlarch.create_model("mlp", data, hidden_sizes=[30])
    result = fit(model, data, name="a/b", score_train=True, max_epochs=3)
    assert result.run.folder.parent == tmp_path / "runs/a/b"
    plain = dlarch.create_data("digits", train_size=200)
    plain.prepare_data()
    plain.setup("fit")
    batch = plain.dataset("train")[np.arange(200)]
    tested = dlarch.AutoModel.from_pretrained(result.run.folder)
    with torch.inference_mode():
        right = (tested(batch.image).argmax(1) == batch.label).float().mean()
    assert result.metrics["train/accuracy"] == pytest.approx(float(right))
    assert result.metrics["train/accuracy"] != result.metrics["test/accuracy"]
    events = EventAccumulator(str(result.run.logs)).Reload()
    assert [e.value for e in events.Scalars("train/accuracy")] == [pytest.approx(float(right))]
    assert len(events.Scalars("test/accuracy")) == 1  # the training split's is not among them
    record = json.loads(result.run.metrics.read_text(encoding="utf-8"))
    assert record["monitor"] == "val/loss"
    assert record["best_score"] == pytest.approx(
        min(event.value for event in events.Scalars("val/loss"))
    )


@pytest.mark.parametrize(
    ("hardware", "precision", "accelerator", "told"),
    [
        ((False, False), "bf16-mixed", "cpu", True),
        ((False, True), "bf16-mixed", "cpu", False),
        ((True, False), "bf16-mixed", "cpu", False),
        ((False, False), "32-true", "cpu", False),
        ((False, False), None, "cpu", False),
        ((False, False), "bf16-mixed", "gpu", False),
    ],
)
def test_bf16_without_hardware_for_it_is_told(
    monkeypatch, caplog, hardware, precision, accelerator, told
):
    monkeypatch.setattr(training.platform, "machine", lambda: "x86_64")
    for name, answer in zip(training.BF16_HARDWARE, hardware, strict=True):
        monkeypatch.setattr(torch.cpu, name, lambda answer=answer: answer, raising=False)
    options = {"accelerator": accelerator} | ({"precision": precision} if precision else {})
    training.scoring_arguments(options)
    assert ("--trainer.precision 32-true trains faster" in caplog.text) == told


def test_bf16_where_nothing_is_known_of_the_hardware(monkeypatch, caplog):
    monkeypatch.setattr(training.platform, "machine", lambda: "x86_64")
    for name in training.BF16_HARDWARE:
        monkeypatch.delattr(torch.cpu, name, raising=False)
    training.scoring_arguments({"accelerator": "cpu", "precision": "bf16-mixed"})
    monkeypatch.setattr(training.platform, "machine", lambda: "arm64")
    training.scoring_arguments({"accelerator": "cpu", "precision": "bf16-mixed"})
    assert not caplog.text
