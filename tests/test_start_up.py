"""How long `dlarch fit` takes to its first training step, beside a bare LightningCLI."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

RATIO = 1.3
ROUNDS = 2

BARE = """\
import sys
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningCLI
from dlarch.data.translation import TranslationData
from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn

class Stop(Callback):
    def on_train_batch_start(self, *_):
        print("first step", flush=True)

LightningCLI(
    Seq2SeqAttn, TranslationData, seed_everything_default=1, save_config_callback=None,
    auto_configure_optimizers=False, trainer_defaults={"callbacks": [Stop()]},
)
"""

OURS = """\
import sys
from dlarch.cli.main import main
from dlarch.tasks import Translation

def on_train_batch_start(*_):
    print("first step", flush=True)

Translation.on_train_batch_start = on_train_batch_start
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_first_step_comes_nearly_as_fast_as_in_a_bare_script(tmp_path):
    letters = random.Random(0)
    words = ["".join(letters.choices("abcdefgh", k=5)) for _ in range(300)]
    (tmp_path / "pairs.tsv").write_text("".join(f"{word}\t{word[::-1]}\n" for word in words))
    options = "{source: pairs.tsv, tokens: characters}"
    trainer = "trainer: {accelerator: cpu, max_steps: 1}\n"
    (tmp_path / "ours.yaml").write_text(
        f"model: seq2seq_attn\ndata: {{class_path: translation, init_args: {options}}}\n{trainer}"
    )
    (tmp_path / "theirs.yaml").write_text(f"model: {{}}\ndata: {options}\n{trainer}")
    (tmp_path / "bare.py").write_text(BARE)
    (tmp_path / "ours.py").write_text(OURS)
    commands = {
        "bare": ["bare.py", "fit", "--config", "theirs.yaml"],
        "ours": ["ours.py", "fit", "--config", "ours.yaml", "--test_after_fit", "false"],
    }
    environment = {**os.environ, "DLARCH_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    environment["DLARCH_RUNS"] = str(tmp_path / "runs")
    for command in commands.values():  # compile modules, fill the cache of data
        _seconds(command, tmp_path, environment)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            times[name].append(_seconds(command, tmp_path, environment))
    ours, bare = min(times["ours"]), min(times["bare"])  # other processes only add to it
    print(f"first step after {ours:.2f} s, bare LightningCLI {bare:.2f} s: {ours / bare:.2f}")
    assert ours <= RATIO * bare


def _seconds(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line == "first step\n":
                elapsed = time.perf_counter() - started
                process.communicate(timeout=120)
                return elapsed
        raise AssertionError(process.communicate()[1])
