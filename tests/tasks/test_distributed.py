"""Two processes against one on the union of their batches, as a script that anybody could write."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import json, logging, os, sys
import lightning as L
import torch
from torch import optim
from dlarch import create_data
from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn


class Watch(L.Callback):
    def __init__(self):
        self.seen = {"train": [], "validation": [], "test": []}

    def on_train_batch_end(self, trainer, module, outputs, batch, *_):
        self.seen["train"] += batch.example.tolist()

    def on_validation_batch_end(self, trainer, module, outputs, batch, *_):
        self.seen["validation"] += batch.example.tolist()

    def on_test_batch_end(self, trainer, module, outputs, batch, *_):
        self.seen["test"] += batch.example.tolist()


def main(source, out, processes):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    L.seed_everything(1, verbose=False)
    model = Seq2SeqAttn(
        embedding_size=6,
        encoder_size=5,
        hidden_size=7,
        optimizer=lambda parameters: optim.SGD(parameters, lr=0.5),
    )
    data = create_data(
        "translation", source=source, train_size=96, batch_size=16 // processes
    )
    watch = Watch()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_steps=6,
        accumulate_grad_batches=2,
        gradient_clip_val=0.5,
        log_every_n_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[watch],
    )
    trainer.fit(model, datamodule=data)
    scores = dict(trainer.callback_metrics)
    trainer.test(model, datamodule=data, verbose=False)
    scores |= trainer.callback_metrics
    result = {"scores": {name: float(value) for name, value in scores.items()}, "seen": watch.seen}
    with open(f"{out}.{trainer.global_rank}.json", "w") as file:
        json.dump(result, file)
    if trainer.is_global_zero:
        torch.save(model.state_dict(), f"{out}.pt")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


def run(folder: Path, processes: int):
    """Train, validate and test; gives weights, and what each process saw and scored."""
    script, source, out = folder / "train.py", folder / "pairs.tsv", folder / f"out{processes}"
    script.write_text(SCRIPT, encoding="utf-8")
    words = [f"{a}{b}" for a in "abcdefghijkl" for b in "klmnopqrstu"]
    lines = [
        f"{' '.join(words[i % 7 : i % 7 + i % 5 + 1])} {w}\t{w} {i}" for i, w in enumerate(words)
    ]
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = os.environ | {
        "DLARCH_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    subprocess.run(
        [sys.executable, str(script), str(source), str(out), str(processes)],
        check=True,
        env=environment,
        timeout=200,
    )
    results = [json.loads(Path(f"{out}.{rank}.json").read_text()) for rank in range(processes)]
    return torch.load(f"{out}.pt", weights_only=True), results


@pytest.mark.slow
def test_two_processes_equal_one_on_the_union_of_their_batches(tmp_path):
    weights, (single,) = run(tmp_path, 1)
    distributed, (zero, one) = run(tmp_path, 2)
    for name, weight in weights.items():
        torch.testing.assert_close(distributed[name], weight, atol=1e-5, rtol=1e-5, msg=name)
    scores = single["scores"]
    assert {"train/loss", "val/loss", "val/bleu", "test/loss", "test/exact_match"} <= scores.keys()
    for name, value in scores.items():
        assert zero["scores"][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
        assert zero["scores"][name] == one["scores"][name], name
    for split, times in (("validation", 2), ("test", 1)):
        everything = sorted(times * list(range(max(single["seen"][split]) + 1)))
        assert len(everything) > 4
        assert sorted(single["seen"][split]) == everything
        assert sorted(zero["seen"][split] + one["seen"][split]) == everything
    for epoch in (slice(48), slice(48, None)):
        assert sorted(zero["seen"]["train"][epoch] + one["seen"]["train"][epoch]) == list(range(96))
