"""The script that draws the page on generators, on runs of a moment."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlarch.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"
QUICK = "--trainer.max_epochs 1 --trainer.accelerator cpu --trainer.enable_progress_bar false"
FEW = "--data digits --data.train_size 200 --model.pictures false"
MODELS = {
    "autoencoder": "--model.code_size 2",
    "cvae": "--data.targets dynamic --model.code_size 4 --model.importance_samples 1",
    "gan": "--model.noise_size 5",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DLARCH_CACHE", str(folder / "cache"))
        patch.setenv("DLARCH_RUNS", str(folder))
        for name, more in {**MODELS, "mlp": ""}.items():
            assert main(["fit", "--model", name, *FEW.split(), *QUICK.split(), *more.split()]) == 0
        yield {path.parents[1].name: path.parent for path in folder.rglob("metrics.json")}


def test_pictures_and_tables_of_runs(runs, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    words = [str(runs[name]) for name in MODELS] + ["--judge", str(runs["mlp"])]
    folders = ["--images", str(tmp_path), "--tables", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["make_generators_page.py", *words, *folders])
    runpy.run_path(str(DOCS / "make_generators_page.py"), run_name="__main__")
    drawn = {path.name: path for path in tmp_path.glob("*.png")}
    kinds = ("reconstructions", "samples", "maps", "sizes")
    assert set(drawn) == {f"generators_{kind}.png" for kind in kinds}
    for path in drawn.values():
        assert path.stat().st_size < 150_000
        assert np.asarray(Image.open(path).convert("L")).std() > 5
    # Rows: the test images, and those of two models that draw them again.
    row = Image.open(drawn["generators_reconstructions.png"]).height
    assert row == 3 * (5 * 8 + 2)
    table = (tmp_path / "generators.txt").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert [row[:2] for row in rows[2:]] == [
        ["`autoencoder`", "2"],
        ["`cvae`", "4"],
        ["`gan`", "5"],
    ]
    assert rows[2][3] == "none made"
    assert rows[4][2] == "none drawn again"
    assert all(float(row[2]) > 0 for row in rows[2:4])
    assert all(float(row[3]) > 0 for row in rows[3:])
    maps = (tmp_path / "generators_maps.txt").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\w+) \| 0\.\d{3} \|$", maps, re.M) == ["pca", "tsne", "autoencoder"]


def test_the_pictures_of_the_page_are_those_of_the_script():
    page = (DOCS / "generators.md").read_text(encoding="utf-8")
    script = (DOCS / "make_generators_page.py").read_text(encoding="utf-8")
    shown = set(re.findall(r"images/(generators_\w+\.png)", page))
    assert shown == set(re.findall(r"images/(generators_\w+\.png)", script))
    for name in shown:
        assert (DOCS / "images" / name).stat().st_size < 150_000
    tables = set(re.findall(r"experiments/(generators\w*\.txt)", page))
    assert tables == {"generators.txt", "generators_maps.txt"}
