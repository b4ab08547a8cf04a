"""Command line over recipe over checkpoint, for the optimizer too; some things cannot change."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from dlarch.runs import Run

from .conftest import fingerprint

QUICK = "--test_after_fit false --trainer.limit_val_batches 1"


@pytest.fixture
def run(trained, tmp_path) -> Run:
    """A copy of the finished run, to be resumed."""
    folder = Path("runs") / tmp_path.name / trained.run.folder.name
    shutil.copytree(trained.run.folder, folder)
    return Run(folder)


def optimizer_settings(run: Run) -> dict[str, float]:
    (state,) = torch.load(run.last, weights_only=True)["optimizer_states"]
    (group,) = state["param_groups"]
    return group


def printed(outcome) -> dict:
    assert outcome.code == 0, outcome.err
    return yaml.safe_load(outcome.out)


def variant(name: str, **changes: str) -> str:
    """A recipe in the working directory that differs from tiny.yaml in some lines."""
    text = Path("tiny.yaml").read_text()
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    Path(f"{name}.yaml").write_text(text)
    return name


def test_command_line_wins_over_the_recipe_wherever_it_stands(cli, here):
    for words in ("--config tiny --model.hidden_size 5", "--model.hidden_size 5 --config tiny"):
        arguments = printed(cli(f"fit {words} --print_config"))["model"]["init_args"]
        assert arguments["hidden_size"] == 5
        assert arguments["encoder_size"] == 8
        assert arguments["optimizer"]["init_args"]["lr"] == 0.01


def test_a_later_recipe_wins_over_an_earlier_one(cli, here):
    Path("more.yaml").write_text("trainer: {max_epochs: 7}\n")
    assert printed(cli("fit --config tiny --config more --print_config"))["trainer"][
        "max_epochs"
    ] == 7  # fmt: skip


def test_checkpoint_alone_brings_everything(cli, run):
    settings = printed(cli(f"fit --ckpt_path {run.folder} --print_config"))
    assert settings == yaml.safe_load(run.config.read_text())


def test_checkpoint_stands_below_the_recipe(cli, run):
    bare = variant("bare", model=("    hidden_size: 8\n    pictures: false\n", ""),
                   lr=("lr: 0.01", "lr: 0.02"))  # fmt: skip
    words = f"--config {bare} --ckpt_path {run.folder}"
    arguments = printed(cli(f"fit {words} --print_config"))["model"]["init_args"]
    assert arguments["hidden_size"] == 8  # of the checkpoint; 128 is the default
    assert arguments["pictures"] is False
    assert arguments["optimizer"]["init_args"]["lr"] == 0.02  # of the recipe
    arguments = printed(cli(f"fit {words} --model.optimizer.lr 0.03 --print_config"))["model"]
    assert arguments["init_args"]["optimizer"]["init_args"]["lr"] == 0.03


def test_restored_optimizer_takes_what_is_asked_for_now(cli, run):
    more = f"--trainer.max_epochs -1 {QUICK}"
    before = torch.load(run.last, weights_only=True)
    steps = before["global_step"]

    def resume(words: str) -> dict[str, float]:
        nonlocal steps
        steps += 1
        outcome = cli(f"fit {words} {more} --trainer.max_steps {steps}")
        assert outcome.code == 0, outcome.err
        assert "cannot be used" not in outcome.err
        return optimizer_settings(run)

    assert resume(f"--ckpt_path {run.folder}")["lr"] == 0.01
    settings = resume(f"--ckpt_path {run.folder} --model.optimizer.lr 0.5")
    assert settings["lr"] == 0.5
    assert settings["betas"] == (0.9, 0.999)
    assert resume(f"--ckpt_path {run.folder}")["lr"] == 0.5  # asked for by the run as it is now
    changed = variant("changed", lr=("lr: 0.01", "{lr: 0.25, betas: [0.8, 0.9]}"))
    Path("changed.yaml").write_text(
        Path("changed.yaml").read_text().replace("init_args:\n        {", "init_args: {")
    )
    settings = resume(f"--config {changed} --ckpt_path {run.folder}")
    assert (settings["lr"], tuple(settings["betas"])) == (0.25, (0.8, 0.9))
    settings = resume(f"--config {changed} --ckpt_path {run.folder} --model.optimizer.lr 0.125")
    assert settings["lr"] == 0.125
    # The state itself is the checkpoint's: one step more than before.
    (state,) = torch.load(run.last, weights_only=True)["optimizer_states"]
    assert {int(values["step"]) for values in state["state"].values()} == {steps}


@pytest.mark.parametrize(
    ("scheduler", "arguments"),
    [("StepLR", "--model.scheduler.step_size 3"),
     ("OneCycleLR", "--model.scheduler.max_lr 0.02 --model.scheduler.total_steps 100"),
     ("ReduceLROnPlateau", "--model.scheduler.patience 0")],
)  # fmt: skip
def test_a_scheduler_keeps_its_values_and_refuses_others(cli, here, scheduler, arguments):
    path = f"torch.optim.lr_scheduler.{scheduler}"
    run = cli(
        f"fit --config tiny --model.scheduler {path} {arguments} {QUICK} --trainer.max_steps 4"
    ).run
    outcome = cli(f"fit --ckpt_path {run.folder} --trainer.max_steps 5")
    assert outcome.code == 0, outcome.err
    assert "cannot be used" not in outcome.err
    expected = optimizer_settings(run)["lr"]
    before = fingerprint(run.folder)
    again = f"fit --ckpt_path {run.folder} --trainer.max_steps 6"
    complaint = cli(f"{again} --model.optimizer.lr 5.0").complaint
    assert complaint.startswith("The new lr of the optimizer cannot be used")
    assert scheduler in complaint
    assert fingerprint(run.folder) == before
    assert cli(f"{again} --model.optimizer.weight_decay 0.125").code == 0
    assert optimizer_settings(run)["weight_decay"] == 0.125
    if scheduler == "ReduceLROnPlateau":
        assert optimizer_settings(run)["lr"] == expected


def test_another_schedule_is_refused_with_both_values(cli, here):
    options = "--model.scheduler torch.optim.lr_scheduler.StepLR --model.scheduler.step_size 3"
    run = cli(f"fit --config tiny {options} {QUICK} --trainer.max_steps 4").run
    before = fingerprint(run.folder)
    resume = f"fit --ckpt_path {run.folder} --trainer.max_steps 6"
    complaint = cli(f"{resume} --model.scheduler.step_size 2").complaint
    assert "model.scheduler.step_size is 2 here and 3 in the checkpoint" in complaint
    assert "model.scheduler is" in cli(f"{resume} --model.scheduler null").complaint
    assert fingerprint(run.folder) == before


def test_one_of_two_values_that_changes_is_seen(cli, run):
    before = torch.load(run.last, weights_only=True)["global_step"]
    changed = f"--model.optimizer.betas [0.7,0.999] --trainer.max_steps {before + 1}"
    assert cli(f"fit --ckpt_path {run.folder} --trainer.max_epochs -1 {changed}").code == 0
    assert tuple(optimizer_settings(run)["betas"]) == (0.7, 0.999)


def test_a_plateau_scheduler_that_looks_the_wrong_way_is_refused(cli, here):
    plateau = "--model.scheduler torch.optim.lr_scheduler.ReduceLROnPlateau"
    complaint = cli(f"fit --config tiny {plateau} --monitor val/exact_match").complaint
    assert "give ReduceLROnPlateau mode max" in complaint


def test_another_optimizer_class_is_refused(cli, run):
    before = fingerprint(run.folder)
    outcome = cli(f"fit --ckpt_path {run.folder} --model.optimizer SGD --trainer.max_epochs 2")
    assert "The optimizer is SGD here and Adam in the checkpoint" in outcome.complaint
    assert fingerprint(run.folder) == before


@pytest.mark.parametrize("verb", ["fit", "test", "predict"])
def test_arguments_that_change_shapes_are_refused_with_both_values(cli, run, verb):
    before = fingerprint(run.folder)
    more = "--trainer.max_epochs 2" if verb == "fit" else ""
    outcome = cli(f"{verb} --ckpt_path {run.folder} --model.hidden_size 9 {more}")
    assert "hidden_size is 9 here and 8 in the checkpoint" in outcome.complaint
    assert fingerprint(run.folder) == before


def test_other_training_data_are_refused_in_a_resumed_run(cli, run):
    before = fingerprint(run.folder)
    outcome = cli(f"fit --ckpt_path {run.folder} --data.train_size 99 --trainer.max_epochs 2")
    assert "trained on other data" in outcome.complaint
    assert fingerprint(run.folder) == before


def test_a_vocabulary_against_the_models_is_refused(cli, run, tmp_path):
    for side in ("source", "target"):
        outcome = cli(f"test --ckpt_path {run.folder} --data.{side}_tokenizer tokenizer.json")
        assert "The model brings its own vocabulary" in outcome.complaint


def test_other_data_are_read_with_the_models_vocabulary(cli, run):
    lines = Path("pairs.tsv").read_text().replace("h", "z")
    Path("other.tsv").write_text(lines)
    outcome = cli(f"test --ckpt_path {run.folder} --data.source other.tsv")
    assert outcome.code == 0, outcome.err
    (line,) = [line for line in outcome.err.splitlines() if "unknown" in line]
    share = lines.count("z") / sum(map(lines.count, "abcdefgz"))
    told = float(line.split("vocabulary: ")[1].split(" %")[0])
    assert told == pytest.approx(100 * share, abs=5)  # of the test split, the 20th part of all


def test_a_schedule_that_ends_before_training_is_refused(cli, here):
    words = "--model.scheduler OneCycleLR --model.scheduler.max_lr 0.1"
    outcome = cli(f"fit --config tiny {words} --model.scheduler.total_steps 4")
    assert "OneCycleLR ends after 4 steps, but training is to take " in outcome.complaint
    assert "--trainer.max_steps 4" in outcome.complaint


def test_options_of_the_vocabulary_are_refused_beside_a_models_own(cli, run):
    complaint = cli(f"test --ckpt_path {run.folder} --data.tokens words").complaint
    assert "data.tokens is words here and characters in the checkpoint" in complaint
    assert cli(f"test --ckpt_path {run.folder} --data.tokens characters").code == 0


def test_all_pairs_of_another_file_are_scored_when_asked(cli, run):
    Path("few.tsv").write_text("".join(f"{'abcd'[n % 4] * (n + 1)}\tdc\n" for n in range(20)))
    predict = f"predict --ckpt_path {run.folder} --data.source few.tsv"
    outcome = cli(f"{predict} --data.test_all true")
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.splitlines()) == 20
    assert "the 20 test pairs" in outcome.err
    fit = cli("fit --config tiny --data.test_all true")
    assert "it is no fit" in fit.complaint
