"""A project that uses dlarch type-checks under mypy --strict."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

CONSUMER = """
from torch import Tensor

import dlarch
from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn


def train(path: str) -> Tensor:
    model = Seq2SeqAttn(hidden_size=32)
    result = dlarch.fit(model, dlarch.create_data("translation", source=path), max_epochs=1)
    best: float = result.metrics["test/bleu"]
    print(best, model.translate(["un chat"], beam=5), dlarch.list_models(family="seq2seq"))
    return model.search(model.example(2, seed=1)[1].source).tokens
"""

MISTAKES = (
    CONSUMER
    + """

wrong: int = Seq2SeqAttn(hidden_size="32").translate(7)
"""
)


@pytest.mark.slow
def test_a_consumer_type_checks_strictly(tmp_path):
    (tmp_path / "right.py").write_text(CONSUMER, encoding="utf-8")
    (tmp_path / "wrong.py").write_text(MISTAKES, encoding="utf-8")
    configuration = Path(__file__).parents[1] / "pyproject.toml"
    found = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", str(configuration)),
            *("--cache-dir", str(configuration.parent / ".mypy_cache"), "right.py", "wrong.py"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
    ).stdout
    mistakes = [line for line in found.splitlines() if "error:" in line]
    assert len(mistakes) == 3, found
    assert all(line.startswith("wrong.py") for line in mistakes)
    assert 'Argument "hidden_size" to "Seq2SeqAttn" has incompatible type "str"' in found
    assert 'Argument 1 to "translate"' in found  # that is, the types are not all Any
    assert "Incompatible types in assignment" in found
