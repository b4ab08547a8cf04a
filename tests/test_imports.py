"""What an import brings along: each room only what it needs."""

import subprocess
import sys

import pytest


def modules_after(statement: str) -> set[str]:
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    return set(found.stdout.split())


@pytest.mark.parametrize(
    ("statement", "without"),
    [
        ("import dlarch", {"torch", "lightning", "numpy", "datasets"}),
        ("import dlarch; dlarch.list_models(); dlarch.list_data()", {"torch", "lightning"}),
        ("from dlarch import DataSpec", {"torch", "lightning"}),
        ("from dlarch.nn import gru_update", {"lightning", "torchvision", "datasets"}),
        ("import dlarch.decoding", {"lightning", "torchvision", "datasets"}),
        ("import dlarch.processing", {"lightning", "torchvision", "datasets"}),
        ("import dlarch.models.seq2seq.seq2seq_attn, dlarch.data.translation", {"datasets"}),
    ],
)
def test_an_import_does_without(statement, without):
    assert modules_after(statement) & without == set()


def test_the_front_door_gives_what_it_names():
    import dlarch

    for name in dlarch.__all__:
        assert getattr(dlarch, name) is not None
    assert set(dlarch.__all__) <= set(dir(dlarch))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = dlarch.nonsense
