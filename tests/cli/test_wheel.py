"""What is installed: the verbs and recipes from a wheel, in an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The content of the wheel, and an environment in which nothing else is `dlarch`."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    code = (
        "import sys; from hatchling.build import build_wheel; "
        "print(build_wheel(sys.argv[1]))"  # what pip calls, without a network
    )
    built = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    empty = folder / "empty"
    empty.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "OMP_NUM_THREADS": "1"}
    environment["DLARCH_CACHE"] = str(folder / "cache")
    environment.pop("DLARCH_RUNS", None)

    def dlarch(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dlarch", *words],
            cwd=empty, env=environment, capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = "import dlarch; print(dlarch.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=empty, env=environment, capture_output=True, text=True
    )
    assert Path(found.stdout.strip()).is_relative_to(folder / "site")
    return folder / "site", dlarch


def test_wheel_holds_recipes_and_marks_types(installed):
    site, _ = installed
    ours = {path.relative_to(ROOT / "recipes") for path in (ROOT / "recipes").rglob("*.yaml")}
    shipped = site / "dlarch" / "recipes"
    assert {path.relative_to(shipped) for path in shipped.rglob("*.yaml")} == ours
    assert (site / "dlarch" / "py.typed").is_file()
    assert not list(site.rglob("test_*.py"))


def test_names_and_recipes_are_found(installed):
    _, dlarch = installed
    assert "seq2seq_attn " in dlarch("list")
    listed = dlarch("recipes")
    assert all(path.stem in listed for path in (ROOT / "recipes").glob("*.yaml"))


@pytest.mark.slow
def test_a_shipped_recipe_trains_and_its_run_translates(installed):
    site, dlarch = installed
    out = dlarch(
        "fit", "--config", "recipes/seq2seq_attn.yaml", "--trainer.max_steps", "2",
        "--trainer.accelerator", "cpu", "--trainer.limit_val_batches", "1",
        "--trainer.limit_test_batches", "1", "--data.train_size", "200",
        "--trainer.val_check_interval", "1.0", "--model.pictures", "false",
    )  # fmt: skip
    assert "Run folder: runs/seq2seq_attn/" in out
    assert dlarch("translate", "last", "le 4 mai", "--max_length", "5").count("\n") == 1
    assert not list((site / "dlarch").rglob("runs"))
