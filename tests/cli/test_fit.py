"""fit, validate, test and predict, from the words to what they leave and print."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlarch import recipes

EPOCH_LINE = re.compile(r"epoch \d+/\d+  .*train/loss .* s")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def next_commands(out: str) -> list[str]:
    return [line.strip() for line in out.partition("Next:\n")[2].splitlines()]


# ---- a run from end to end


def test_a_run_leaves_its_files(trained):
    run = trained.run
    assert run.folder.parent == Path("runs/tiny")
    for path in (run.config, run.spec, run.last, run.best, run.metrics):
        assert path.is_file()
    spec = json.loads(run.spec.read_text())["spec"]
    assert spec["source_vocab_size"] == 4 + len("abcdefgh")
    tags = EventAccumulator(str(run.logs)).Reload().Tags()["scalars"]
    assert {"train/loss", "val/loss", "val/bleu", "test/bleu"} <= set(tags)


def test_results_go_to_stdout_and_one_line_per_epoch_to_stderr(cli, here):
    outcome = cli("fit --config tiny --trainer.max_epochs 2 --trainer.logger false")
    lines = outcome.err.splitlines()
    assert len(lines) == 2
    assert all(EPOCH_LINE.fullmatch(line) for line in lines)
    assert [line[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "epoch 1/2" not in outcome.out


def test_summary_tells_layers_metrics_samples_and_epochs(trained):
    record = json.loads(trained.run.metrics.read_text())
    table = dict(re.findall(r"│ (test/\w+) +│ +([\d.]+) │", trained.out))
    tested = {name: value for name, value in record["metrics"].items() if "test/" in name}
    assert {name: float(value) for name, value in table.items()} == pytest.approx(tested, abs=1e-4)
    total = sum(tensor.numel() for tensor in weights(trained.run.last).values())
    assert re.search(rf"│ total +│ +│ +{total:,} │", trained.out)
    samples = re.findall(r"│ ([a-h]+) +│ ([a-h]+) +│ .* │", trained.out)
    assert len(samples) == 8
    assert all(source == reference[::-1] for source, reference in samples)
    assert "Best checkpoint (tested): epoch 1; training ended in epoch 1;" in trained.out
    assert record["headline"] == "test/exact_match"  # characters
    assert record["recipe"] == "tiny"


def test_next_commands_can_be_pasted(cli, trained):
    board, *ours = next_commands(trained.out)
    assert board.startswith("tensorboard --logdir ")
    assert list(Path(shlex.split(board)[2]).rglob("events.out.tfevents.*"))
    assert [command.split()[1] for command in ours] == ["translate", "test"]
    for command in ours:
        outcome = cli(command.removeprefix("dlarch "))
        assert outcome.code == 0
        assert outcome.out


def test_next_commands_are_only_those_that_work(cli, here):
    short = "fit --config tiny --trainer.max_steps 1 --trainer.limit_val_batches 1"
    short += " --trainer.limit_test_batches 1"
    unlogged = cli(f"{short} --trainer.logger false")
    assert [line.split()[1] for line in next_commands(unlogged.out)] == ["translate", "test"]
    unsaved = cli(f"{short} --trainer.enable_checkpointing false")
    assert [line.split()[0] for line in next_commands(unsaved.out)] == ["tensorboard"]
    assert "Best checkpoint: none was kept;" in unsaved.out
    nothing = cli(f"{short} --trainer.enable_checkpointing false --trainer.logger false")
    assert "Run folder: " in nothing.out
    assert "Next:" not in nothing.out


def test_config_of_a_run_makes_the_run_again(cli, trained):
    again = cli(f"fit --config {trained.run.config} --test_after_fit false")
    assert again.run.folder.parent == trained.run.folder.parent
    assert again.run.folder != trained.run.folder
    assert_same(weights(again.run.last), weights(trained.run.last))


def test_without_the_final_test_there_are_no_test_metrics(cli, here):
    outcome = cli("fit --config tiny --test_after_fit false")
    assert "test/" not in outcome.out
    assert re.search(r"│ val/loss +│", outcome.out)
    record = json.loads(outcome.run.metrics.read_text())
    assert record["headline"] is None
    assert not [name for name in record["metrics"] if name.startswith("test/")]


def test_mixed_precision_runs(cli, trained):
    outcome = cli("fit --config tiny --trainer.precision bf16-mixed")
    assert outcome.code == 0, outcome.err
    record = json.loads(outcome.run.metrics.read_text())
    exact = json.loads(trained.run.metrics.read_text())
    ours, theirs = record["metrics"]["test/loss"], exact["metrics"]["test/loss"]
    assert ours != theirs
    assert ours == pytest.approx(theirs, rel=0.02)


def test_early_stopping_is_told(cli, here):
    stop = "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/loss "
    stop += "--trainer.callbacks.min_delta=100 --trainer.callbacks.patience=1"
    outcome = cli(f"fit --config tiny --trainer.max_epochs 9 {stop}")
    assert outcome.code == 0, outcome.err
    assert "training stopped early in epoch 2;" in outcome.out


def test_another_metric_can_choose_the_best(cli, here):
    outcome = cli("fit --config tiny --monitor val/token_accuracy")
    record = json.loads(outcome.run.metrics.read_text())
    assert record["headline"] == "test/token_accuracy"  # what was asked for is what counts
    callbacks = torch.load(outcome.run.last, weights_only=True)["callbacks"]
    state = next(state for name, state in callbacks.items() if "'mode': 'max'" in name)
    assert state["monitor"] == "val/token_accuracy"
    assert cli("fit --config tiny --monitor val/nothing").complaint


def test_fast_dev_run_leaves_nothing(cli, here):
    before = set(Path("runs/tiny").glob("*"))
    outcome = cli("fit --config tiny --trainer.fast_dev_run 1")
    assert outcome.code == 0, outcome.err
    assert set(Path("runs/tiny").glob("*")) == before
    assert "Run folder" not in outcome.out


# ---- names and recipes


def test_names_stand_bare_or_as_class_path_in_yaml_and_on_the_command_line(cli, here):
    expected = yaml.safe_load(cli("fit --model seq2seq_attn --data translation --print_config").out)
    assert expected["model"]["class_path"] == "seq2seq_attn"
    assert expected["data"]["class_path"] == "translation"
    path = "dlarch.models.seq2seq.seq2seq_attn.Seq2SeqAttn"
    Path("bare.yaml").write_text("model: seq2seq_attn\ndata: translation\n")
    Path("paths.yaml").write_text(
        "model: {class_path: seq2seq_attn}\ndata: {class_path: translation, init_args: {}}\n"
    )
    for words in (
        "--model=seq2seq_attn --data=translation",
        "--model.class_path seq2seq_attn --data.class_path translation",
        f"--model {path} --data translation",
        "--model '{class_path: seq2seq_attn}' --data translation",
        "--config bare.yaml",
        "--config paths.yaml",
        "-c paths",
    ):
        outcome = cli(f"fit {words} --print_config")
        assert outcome.code == 0, (words, outcome.err)
        assert yaml.safe_load(outcome.out) == expected, words


def test_printed_config_is_a_recipe(cli, here):
    printed = cli("fit --config tiny --print_config").out
    Path("printed.yaml").write_text(printed)
    assert cli("fit --config printed --print_config").out == printed


def test_help_of_a_class_by_name(cli, here):
    text = cli("fit --model.help seq2seq_attn").out
    assert "--model.hidden_size" in text
    assert "units of the decoder" in text
    assert text == cli("fit --model.help=seq2seq_attn").out
    assert "--data.source_language" in cli("fit --data.help translation").out
    everything = cli("fit --help").out
    assert "--trainer.max_epochs" in everything
    assert "--test_after_fit" in everything


def test_recipes_are_found_by_path_and_by_name_from_any_folder(cli, here):
    paths = {recipe.name: recipe.path for recipe in recipes.list_recipes()}
    for name, path in paths.items():
        for words in (name, f"{name}.yaml", f"recipes/{name}", f"recipes/{name}.yaml"):
            assert recipes.find_recipe(words) == path
    expected = cli(f"fit --config {paths['seq2seq_attn']} --print_config").out
    assert yaml.safe_load(expected)["model"]["class_path"] == "seq2seq_attn"
    for words in ("seq2seq_attn", "recipes/seq2seq_attn.yaml"):
        assert cli(f"fit --config {words} --print_config").out == expected
    own = cli("fit --config tiny --print_config").out  # ./tiny.yaml
    Path("seq2seq_attn.yaml").write_text(Path("tiny.yaml").read_text())
    try:
        assert cli("fit --config seq2seq_attn --print_config").out == own  # what is here wins
    finally:
        Path("seq2seq_attn.yaml").unlink()


# ---- scoring, and going on


def test_all_ways_to_name_a_checkpoint_score_the_best_of_the_run(cli, here):
    run = cli("fit --config tiny --trainer.max_epochs 3 --model.optimizer.lr 0.03").run
    expected = json.loads(run.metrics.read_text())["metrics"]
    for words in ("", "--config tiny", f"--ckpt_path {run.folder}", f"--ckpt_path {run.best}",
                  "--ckpt_path best", f"--config tiny --ckpt_path {run.folder}"):  # fmt: skip
        outcome = cli(f"test {words}")
        assert outcome.code == 0, (words, outcome.err)
        assert set(outcome.figures) == {name for name in expected if name.startswith("test/")}
        for name, value in outcome.figures.items():
            assert value == pytest.approx(expected[name], rel=1e-4), words
    assert f"Checkpoint: {run.best}" in cli("test").err
    assert set(cli("validate").figures) == {name for name in expected if name.startswith("val/")}


def test_predict_prints_a_line_per_example_of_the_test_split(cli, trained):
    run = trained.run.folder
    tested = cli(f"predict --ckpt_path {run} --data.batch_size 4").out.splitlines()
    whole = cli(f"predict --ckpt_path {run}").out.splitlines()
    assert len(tested) == len(whole)
    assert sorted(tested) == sorted(whole)
    assert 5 <= len(whole) <= 30  # 5 of 100 of 300, by a hash
    assert set("".join(whole)) <= set("abcdefgh")


def test_a_run_goes_on_in_its_folder_as_if_it_had_not_stopped(cli, here):
    whole = cli("fit --config tiny --trainer.max_epochs 2").run
    part = cli("fit --config tiny --trainer.max_epochs 1").run
    outcome = cli(f"fit --ckpt_path {part.folder} --trainer.max_epochs 2")
    assert outcome.run.folder.samefile(part.folder)
    assert_same(weights(whole.last), weights(part.last))
    ours, theirs = (json.loads(run.metrics.read_text())["metrics"] for run in (part, whole))
    assert ours == theirs
    # What was asked for last is what the next resume goes by.
    assert yaml.safe_load(part.config.read_text())["trainer"]["max_epochs"] == 2
    finished = cli(f"fit --ckpt_path {part.folder}")
    assert finished.code == 0
    assert "nothing left to train" in finished.err
    assert_same(weights(whole.last), weights(part.last))


def test_last_is_the_newest_run(cli, here):
    first = cli("fit --config tiny --trainer.max_steps 3 --test_after_fit false").run
    second = cli("fit --config tiny --trainer.max_steps 3 --test_after_fit false").run
    before = weights(first.last)
    outcome = cli("fit --config tiny --ckpt_path last --trainer.max_steps 5 --test_after_fit false")
    assert outcome.run.folder.samefile(second.folder)
    assert torch.load(second.last, weights_only=True)["global_step"] == 5
    assert_same(weights(first.last), before)


def test_a_checkpoint_away_from_its_run_says_how_it_was_made(cli, trained, tmp_path):
    moved = tmp_path / "kept" / "moved.ckpt"
    moved.parent.mkdir()
    moved.write_bytes(trained.run.best.read_bytes())
    (tmp_path / "config.yaml").write_text("model: another\n")  # of something else
    figures = cli(f"test --ckpt_path {moved}").figures
    assert figures == cli(f"test --ckpt_path {trained.run.folder}").figures


# ---- signals, in a process of its own


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_with_a_resumable_checkpoint_and_the_command_to_resume(cli, here, number):
    command = [sys.executable, "-m", "dlarch", "fit", "--config", "tiny.yaml"]
    command += ["--trainer.max_epochs", "100000", "--test_after_fit", "false"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(number)
        started = time.monotonic()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert time.monotonic() - started < 30
    assert out == ""
    *epochs, last = [first, *err.splitlines(keepends=True)]
    assert all(EPOCH_LINE.fullmatch(line.strip()) for line in epochs)  # and no stray warning
    assert last.startswith(f"Stopped by {number.name} after step ")
    resume = shlex.split(last.partition("Resume with: dlarch ")[2])
    step = int(last.split("after step ")[1].partition(".")[0])
    outcome = cli(shlex.join(resume) + f" --trainer.max_epochs -1 --trainer.max_steps {step + 2}")
    assert outcome.code == 0, outcome.err
    assert torch.load(outcome.run.last, weights_only=True)["global_step"] == step + 2
