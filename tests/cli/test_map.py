"""`dlarch map`: the tables of the projector in two dimensions."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

QUICK = "--trainer.max_epochs 1 --trainer.accelerator cpu"


@pytest.fixture(scope="module")
def run(cli, here):
    outcome = cli(f"fit --model rnn_classifier --data labelled_text {QUICK} --data.train_size 500")
    assert outcome.code == 0, outcome.err
    return outcome.run


def test_each_table_becomes_an_image_beside_the_logs(cli, run):
    outcome = cli(f"map {run.folder} --neighbours 5")
    assert outcome.code == 0, outcome.err
    lines = dict(line.split("  ", 1) for line in outcome.out.splitlines())
    assert set(lines) == {str(run.folder / "maps" / f"{n}.png") for n in ("embedding", "features")}
    for path, said in lines.items():
        found = re.fullmatch(
            r"trustworthiness among 5 neighbours: pca (0\.\d{4})  tsne (0\.\d{4})", said
        )
        assert all(0.4 < float(value) < 1 for value in found.groups())
        assert np.asarray(Image.open(path)).std() > 5


def test_one_table_is_asked_for_and_the_newest_is_taken(cli, run, tmp_path):
    later = run.logs / "100000" / "features"
    shutil.copytree(next(run.logs.glob("*/features")), later)
    (later / "tensors.tsv").write_text("nothing\n")
    assert "tensors.tsv holds no rows" in cli(f"map {run.folder} --of features").complaint
    shutil.rmtree(later.parent)
    outcome = cli(f"map {run.folder} --of features --neighbours 3 --folder {tmp_path}")
    assert outcome.out.startswith(str(tmp_path / "features.png"))
    assert [path.name for path in tmp_path.iterdir()] == ["features.png"]


def test_a_folder_of_a_table_serves_too(cli, run, tmp_path):
    table = tmp_path / "mine"
    shutil.copytree(next(run.logs.glob("*/features")), table)
    outcome = cli(f"map {table} --metric cosine --neighbours 5")
    assert outcome.out.startswith(str(table / "mine.png"))


def test_what_cannot_be_drawn(cli, run, here):
    said = cli(f"map {run.folder} --of feature").complaint
    assert "has no table 'feature'. Did you mean 'features'? Tables: " in said
    assert "neighbours are too many" in cli(f"map {run.folder} --neighbours 999").complaint
    silent = cli(f"fit --model mlp --data digits {QUICK} --model.pictures false").run
    assert "has no table of the projector" in cli(f"map {silent.folder}").complaint
    assert "There is no checkpoint or run folder 'nowhere'" in cli("map nowhere").complaint
