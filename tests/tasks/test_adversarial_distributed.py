"""Two networks in turn in two processes, against one process on the union of their batches."""

import json
import os
import subprocess
import sys

import pytest
import torch

SCRIPT = """
import json, sys
import lightning as L
import torch
from torch import optim
from dlarch import create_data
from dlarch.models.gans.wgan_gp import WGANGP


def sgd(parameters):
    return optim.SGD(parameters, lr=0.05)


def main(out, processes):
    L.seed_everything(1, verbose=False)
    model = WGANGP(
        noise_size=3, generator_sizes=(8,), critic_sizes=(8,), critic_steps=2, ema=0.9,
        critic_activation="tanh", optimizer=sgd, critic_optimizer=sgd,
    )
    data = create_data("toy_2d", shape="ring", size=330, batch_size=16 // processes)
    trainer = L.Trainer(
        accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
        max_epochs=1, gradient_clip_val=0.5, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=out + "_folder",
    )
    own = model.draw_noise
    first = {}

    def noise(count):
        first.setdefault("noise", own(2).tolist())
        return torch.linspace(-1, 1, 3).expand(count, 3)

    # Of examples that are all alike, and slopes at them, no draw is left.
    model.draw_noise = noise
    lerp = torch.lerp
    torch.lerp = lambda made, real, shares: lerp(made, real, torch.full_like(shares, 0.3))
    trainer.fit(model, datamodule=data)
    scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
    with open(f"{out}.{trainer.global_rank}.json", "w") as file:
        json.dump({"scores": scores, "noise": first["noise"]}, file)
    if trainer.is_global_zero:
        torch.save(model.state_dict(), f"{out}.pt")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    found = []
    for processes in (1, 2):
        out = folder / f"out{processes}"
        done = subprocess.run(
            [sys.executable, "train.py", str(out), str(processes)], cwd=folder, env=environment,
            capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        told = [
            json.loads((folder / f"out{processes}.{rank}.json").read_text(encoding="utf-8"))
            for rank in range(processes)
        ]
        found.append((torch.load(f"{out}.pt", weights_only=True), told))
    return found


@pytest.mark.slow
def test_gradients_are_means_over_the_examples_of_all(outcomes):
    (one, _), (two, _) = outcomes
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.slow
def test_scores_are_those_of_all_and_noise_is_each_process_own(outcomes):
    (_, (alone,)), (_, both) = outcomes
    for told in both:
        assert told["scores"]["val/mmd"] == pytest.approx(alone["scores"]["val/mmd"], abs=1e-5)
        assert told["scores"]["val/modes"] == alone["scores"]["val/modes"]
    assert both[0]["noise"] != both[1]["noise"]
