"""`dlarch generate`: names, of a class if asked, and whether they are new; images."""

import numpy as np
import pytest
from PIL import Image

from dlarch.hub import AutoModel


@pytest.fixture(scope="module")
def run(cli, here):
    words = "--data names --data.locales [fi_FI] --model.hidden_size 32 --data.batch_size 16"
    outcome = cli(f"fit --model char_rnn {words} --trainer.max_epochs 2 --trainer.accelerator cpu")
    assert outcome.code == 0, outcome.err
    assert f"dlarch generate {outcome.run.folder} --n 10" in outcome.out
    return outcome.run


def test_names_are_those_of_the_method_and_known_ones_are_marked(cli, run):
    outcome = cli(f"generate {run.folder} --n 30 --condition gender=female --seed 2")
    assert outcome.code == 0, outcome.err
    lines = [line.split("\t") for line in outcome.out.splitlines()]
    model = AutoModel.from_pretrained(run.folder)
    assert [text for text, _ in lines] == model.generate(30, condition="female", seed=2)
    assert {mark for _, mark in lines} <= {"new", "known"}
    new = sum(mark == "new" for _, mark in lines)
    assert f"{new} of 30 are not among the training texts" in outcome.err


def test_one_name_comes_as_it_is_written(cli, run):
    outcome = cli(f"generate {run.folder} --prompt Ma --condition male --seed 2")
    model = AutoModel.from_pretrained(run.folder)
    (name,) = model.generate(1, prompt="Ma", condition="male", seed=2)
    assert outcome.out == name + "\n"
    assert "1 of 1 is not among the training texts" in outcome.err  # drawn by a poor model


def test_mistakes_are_named(cli, run):
    assert "only gender: female, male" in cli(f"generate {run.folder} --condition age=9").complaint
    assert "Did you mean 'male'" in cli(f"generate {run.folder} --condition mal").complaint
    assert "never seen '€'" in cli(f"generate {run.folder} --prompt €").complaint
    assert "must be at least 1" in cli(f"generate {run.folder} --n 0").complaint


def test_a_model_that_does_not_write(cli, here):
    gate = cli("fit --model mlp --data logic_gates --trainer.max_epochs 1").run
    assert "MLP does not generate" in cli(f"generate {gate.folder}").complaint


# ---- images


@pytest.fixture(scope="module")
def drawer(cli, here):
    words = "--data digits --data.targets threshold --data.train_size 64 --model.code_size 2"
    outcome = cli(f"fit --model cvae {words} --trainer.max_epochs 1 --model.pictures false")
    assert outcome.code == 0, outcome.err
    assert f"dlarch generate {outcome.run.folder} --n 64 --grid generated.png" in outcome.out
    return outcome.run


def test_a_grid_holds_the_images_of_the_method(cli, drawer, tmp_path):
    path = tmp_path / "new" / "grid.png"
    outcome = cli(f"generate {drawer.folder} --n 5 --condition 7 --seed 2 --grid {path}")
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"{path}\n"
    pixels = np.asarray(Image.open(path).convert("L"))
    images = AutoModel.from_pretrained(drawer.folder).generate(5, condition="7", seed=2)
    zoom, gap = 6, 2
    step = 8 * zoom + gap
    assert pixels.shape == (2 * step + gap, 3 * step + gap)
    for place, image in enumerate(images):
        row, column = divmod(place, 3)
        cell = pixels[gap + row * step :: zoom, gap + column * step :: zoom][:8, :8]
        assert (cell == image[..., 0]).all()


def test_without_a_grid_each_image_is_a_file(cli, drawer, tmp_path):
    outcome = cli(f"generate {drawer.folder} --n 3 --seed 1 --folder {tmp_path / 'digits'}")
    assert outcome.code == 0, outcome.err
    files = sorted((tmp_path / "digits").iterdir())
    assert [file.name for file in files] == ["00000.png", "00001.png", "00002.png"]
    images = AutoModel.from_pretrained(drawer.folder).generate(3, seed=1)
    for file, image in zip(files, images, strict=True):
        assert (np.asarray(Image.open(file)) == image[..., 0]).all()


def test_a_walk_is_an_animation_that_repeats(cli, drawer, tmp_path):
    path = tmp_path / "walk.gif"
    outcome = cli(f"generate {drawer.folder} --n 2 --condition 3 --seed 1 --walk {path}")
    assert outcome.code == 0, outcome.err
    walk = AutoModel.from_pretrained(drawer.folder).walk(2, condition="3", seed=1)
    with Image.open(path) as animation:
        assert animation.size == (128, 128)
        assert animation.info["loop"] == 0
        assert 2 <= animation.n_frames <= len(walk) == 32  # equal neighbours are one frame


def test_mistakes_with_images_are_named(cli, run, drawer, tmp_path):
    complaint = cli(f"generate {drawer.folder} --temperature 0.5").complaint
    assert "--temperature is for models of texts, which CVAE is not: leave it out" in complaint
    complaint = cli(f"generate {run.folder} --grid out.png").complaint
    assert "--grid is for models of images, which CharRNN is not: leave it out" in complaint
    assert "no class '77', only 0" in cli(f"generate {drawer.folder} --condition 77").complaint
    assert "Did you mean '7'" in cli(f"generate {drawer.folder} --condition 77").complaint
    assert "out.foo" in cli(f"generate {drawer.folder} --grid {tmp_path / 'out.foo'}").complaint
    assert "name a .gif file" in cli(f"generate {drawer.folder} --walk walk.png").complaint
