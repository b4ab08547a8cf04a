"""The optimizers of torch and those of dlarch that have the same names, on the command line."""

from pathlib import Path

import pytest
import torch
import yaml

from dlarch.runs import Run

from .conftest import fingerprint

WARMUP = "--model.scheduler dlarch.optim.WarmupCosine"  # imports dlarch.optim
NAMES = ["SGD", "Adagrad", "Adadelta", "RMSprop", "Adam", "AdamW", "Adamax", "NAdam"]


def asked(cli, words):
    outcome = cli(f"fit --config tiny {words} --print_config")
    assert outcome.code == 0, outcome.err
    return yaml.safe_load(outcome.out)["model"]["init_args"]["optimizer"]


@pytest.mark.parametrize("name", NAMES)
def test_a_bare_name_means_torch_whatever_is_imported(cli, here, name):
    found = asked(cli, f"{WARMUP} --model.optimizer {name} --model.optimizer.lr 0.25")
    assert found["class_path"] == f"torch.optim.{name}"
    assert found["init_args"]["lr"] == 0.25


@pytest.mark.parametrize("name", NAMES)
def test_the_path_means_ours(cli, here, name):
    found = asked(cli, f"--model.optimizer dlarch.optim.{name} --model.optimizer.lr 0.25")
    assert found["class_path"] == f"dlarch.optim.{name}"
    assert found["init_args"]["lr"] == 0.25


def test_an_optimizer_in_the_place_of_another_has_its_own_defaults(cli, here):
    assert asked(cli, "--model.optimizer AdamW")["init_args"]["weight_decay"] == 0.01
    words = "--model.optimizer.weight_decay 0.5 --model.optimizer AdamW"
    assert asked(cli, words)["init_args"]["weight_decay"] == 0.5


def test_a_recipe_may_use_either(cli, here):
    recipe = yaml.safe_load(Path("tiny.yaml").read_text())
    arguments = recipe["model"]["init_args"]
    arguments["scheduler"] = "dlarch.optim.WarmupCosine"
    for path, expected in (("Adam", "torch.optim.Adam"), ("dlarch.optim.Adam",) * 2):
        arguments["optimizer"] = {"class_path": path, "init_args": {"lr": 0.25}}
        Path("either.yaml").write_text(yaml.safe_dump(recipe))
        outcome = cli("fit --config either --print_config")
        written = yaml.safe_load(outcome.out)["model"]["init_args"]["optimizer"]
        assert written["class_path"] == expected
        assert written["init_args"]["lr"] == 0.25


def test_an_option_that_ours_does_not_have(cli, here):
    words = "fit --config tiny --model.optimizer dlarch.optim.Adam --model.optimizer.amsgrad true"
    assert "There is no option --model.optimizer.amsgrad" in cli(words).complaint
    wrong = "--model.optimizer dlarch.optim.SGD --model.optimizer.momentum 1.5"
    complaint = cli(f"fit --config tiny {wrong}").complaint
    assert "momentum must be at least 0 and less than 1, not 1.5" in complaint


@pytest.mark.parametrize("name", ["NAdam", "SGD"])
def test_training_with_ours_can_be_resumed_exactly(cli, here, name):
    optimizer = f"--model.optimizer dlarch.optim.{name} --model.optimizer.lr 0.01"
    if name == "SGD":
        optimizer += " --model.optimizer.momentum 0.9 --model.optimizer.nesterov true"
    shared = f"fit --config tiny {optimizer} --test_after_fit false"
    straight = cli(f"{shared} --trainer.max_epochs 2").run
    halfway = cli(f"{shared} --trainer.max_epochs 2 --trainer.max_steps 3").run
    stopped = torch.load(halfway.last, weights_only=True)["global_step"]
    assert stopped == 3 < torch.load(straight.last, weights_only=True)["global_step"]
    cli(f"fit --ckpt_path {halfway.folder} --trainer.max_steps -1 --test_after_fit false")
    assert content(straight) == content(halfway)


def test_each_of_two_optimizers_can_be_given_another_rate_on_the_way(cli, here):
    run = cli(
        "fit --config gan --data.size 400 --model.scheduler null --trainer.max_steps 4"
        " --trainer.enable_progress_bar false --test_after_fit false"
    ).run
    before = rates(run)
    assert before[0] == before[1] != 0.25
    resume = f"fit --ckpt_path {run.folder} --test_after_fit false --trainer.max_steps"
    assert cli(f"{resume} 6 --model.critic_optimizer.lr 0.25").code == 0
    assert rates(run) == [before[0], 0.25]
    assert cli(f"{resume} 8 --model.optimizer.lr 0.125").code == 0
    assert rates(run) == [0.125, 0.25]


def rates(run: Run) -> list[float]:
    states = torch.load(run.last, weights_only=True)["optimizer_states"]
    return [state["param_groups"][0]["lr"] for state in states]


def content(run: Run) -> list[bytes]:
    """Weights and what the optimizer remembers at the end."""
    checkpoint = torch.load(run.last, weights_only=True)
    state = checkpoint["optimizer_states"][0]["state"]
    kept = [value for values in state.values() for value in values.values()]
    tensors = [*checkpoint["state_dict"].values(), *(torch.as_tensor(value) for value in kept)]
    assert len(tensors) > len(checkpoint["state_dict"])
    return [tensor.numpy().tobytes() for tensor in tensors]


@pytest.mark.parametrize("change", ["Adam dlarch.optim.Adam", "dlarch.optim.Adam Adam"])
def test_one_does_not_go_on_from_the_other(cli, here, change):
    first, second = change.split()
    run = cli(f"fit --config tiny --model.optimizer {first} --trainer.max_steps 3").run
    before = fingerprint(run.folder)
    again = f"fit --ckpt_path {run.folder} --model.optimizer {second} --trainer.max_steps 6"
    assert "in the checkpoint: resume with the same" in cli(again).complaint
    assert fingerprint(run.folder) == before
