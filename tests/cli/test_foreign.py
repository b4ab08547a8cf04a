"""Classes and checkpoints from elsewhere: the user's folder, and strangers."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

MODEL = """\
from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn
from dlarch.registry import register_model


@register_model("my_own")
class MyOwn(Seq2SeqAttn):
    \"\"\"A model of the user's folder.\"\"\"
"""

SPY = """\
from pathlib import Path

from torch.nn.functional import cross_entropy as loss

Path("imported").touch()
"""


def command(*words):
    """`dlarch WORDS` in a process of its own, which has imported nothing yet."""
    done = subprocess.run([sys.executable, "-m", "dlarch", *words], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_a_model_of_the_users_folder_trains_resumes_and_is_tested(cli, here):
    Path("my_model.py").write_text(MODEL)
    words = ["--model", "my_model.MyOwn", "--model.hidden_size", "8", "--data", "translation"]
    words += ["--data.source", "pairs.tsv", "--trainer.max_steps", "2"]
    code, out, err = command("fit", *words)
    assert code == 0, err
    run = next(line for line in out.splitlines() if line.startswith("Run folder: ")).split()[-1]
    config = (Path(run) / "config.yaml").read_text()
    assert "class_path: my_model.MyOwn" in config
    code, _, err = command("fit", "--ckpt_path", run, "--trainer.max_steps", "3")
    assert code == 0, err


@pytest.fixture
def foreign(trained, here, tmp_path):
    """A checkpoint away from its run, with another value in its stored configuration."""

    def make(section, name, value):
        checkpoint = torch.load(trained.run.best, weights_only=True)
        checkpoint["dlarch"]["config"][section]["init_args"][name] = value
        path = tmp_path / "foreign.ckpt"
        torch.save(checkpoint, path)
        return path

    return make


@pytest.mark.parametrize(
    "value", ["spy.loss", {"class_path": "spy.loss"}, {"class_path": "spy.Loss", "init_args": {}}]
)
@pytest.mark.parametrize("verb", ["test", "fit"])
def test_code_that_a_foreign_checkpoint_names_is_not_imported(cli, here, foreign, value, verb):
    Path("spy.py").write_text(SPY)
    path = foreign("model", "loss", value)
    complaint = cli(f"{verb} --ckpt_path {path}").complaint
    assert "asks for spy." in complaint
    assert "--config RECIPE" in complaint
    assert not Path("imported").exists()


def test_classes_of_torch_and_paths_of_data_are_no_foreign_code(cli, here, foreign):
    Path("spy.py").write_text(SPY)
    path = foreign("model", "loss", {"class_path": "torch.nn.CrossEntropyLoss", "init_args": {}})
    outcome = cli(f"test --ckpt_path {path}")
    assert outcome.code == 0, outcome.err
    assert not Path("imported").exists()
