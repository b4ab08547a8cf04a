"""Losses of several parts in two processes, against one process on the union of their batches."""

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
from dlarch import create_data, create_model


def sgd(parameters):
    return optim.SGD(parameters, lr=0.02)


def main(out, processes):
    noise = {}
    for name in ("adversarial_autoencoder", "vae_gan"):
        L.seed_everything(1, verbose=False)
        # 70 images are not a multiple of the batch: the last one is smaller.
        data = create_data("digits", train_size=70, batch_size=16 // processes)
        model = create_model(
            name, data, code_size=3, hidden_sizes=(8,), critic_sizes=(8, 8), activation="tanh",
            optimizer=sgd, critic_optimizer=sgd, pictures=False,
        )
        own = model.draw_normal

        def alike(*shape):
            noise.setdefault(name, own(2, 3).tolist())
            return torch.linspace(-1, 1, 3).expand(shape)

        model.draw_normal = alike
        trainer = L.Trainer(
            accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
            max_epochs=2, gradient_clip_val=5.0, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            default_root_dir=out + "_folder",
        )
        trainer.fit(model, datamodule=data)
        scores = {key: float(value) for key, value in trainer.callback_metrics.items()}
        with open(f"{out}.{name}.{trainer.global_rank}.json", "w") as file:
            json.dump({"scores": scores, "noise": noise[name]}, file)
        if trainer.is_global_zero:
            torch.save(model.state_dict(), f"{out}.{name}.pt")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for processes in (1, 2):
        done = subprocess.run(
            [sys.executable, "train.py", str(folder / f"out{processes}"), str(processes)],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adversarial_autoencoder", "vae_gan"])
def test_each_part_learns_from_the_examples_of_all(name, folder):
    one, two = (torch.load(folder / f"out{n}.{name}.pt", weights_only=True) for n in (1, 2))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-5, rtol=1e-4, msg=key)

    def told(processes, rank):
        path = folder / f"out{processes}.{name}.{rank}.json"
        return json.loads(path.read_text(encoding="utf-8"))

    alone, both = told(1, 0), [told(2, rank) for rank in (0, 1)]
    for tag, value in alone["scores"].items():
        if tag.startswith("val/"):
            for each in both:
                assert each["scores"][tag] == pytest.approx(value, rel=1e-3, abs=1e-4), tag
    assert both[0]["noise"] != both[1]["noise"]
