"""Made images beside real ones: the Frechet distances against their closed form."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

import dlarch
from dlarch import AutoModel
from dlarch.analysis import made
from dlarch.analysis.made import judge_images
from dlarch.cli.main import main
from dlarch.errors import CheckpointError, MismatchError, OptionError
from dlarch.factory import create_data_of
from dlarch.tasks.judge import Judge

QUICK = "--trainer.max_epochs 1 --trainer.accelerator cpu --trainer.enable_progress_bar false"
FEW = "--data digits --data.train_size 200 --model.pictures false"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of models that make digits, and of a classifier of them."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DLARCH_CACHE", str(folder / "cache"))
        found = {}
        for name, more in {
            "vae": "--data.targets dynamic --model.importance_samples 1",
            "gan": "",
            "mlp": "",
        }.items():
            patch.setenv("DLARCH_RUNS", str(folder / name))
            assert main(["fit", "--model", name, *FEW.split(), *QUICK.split(), *more.split()]) == 0
            (metrics,) = (folder / name).rglob("metrics.json")
            found[name] = metrics.parent
        yield found


class Means(nn.Module):
    """Features (B, 4) of images in three channels: means of the quarters of the red one."""

    num_features = 4

    def forward(self, images):
        assert images.shape[1] == 3
        assert 0 <= images.min() <= images.max() <= 1
        return nn.functional.adaptive_avg_pool2d(images[:, 0], 2).flatten(1)


def closed_form(real, fake):
    """Of the Gaussians of rows, by scipy."""
    one, other = (np.cov(rows, rowvar=False) for rows in (real, fake))
    root = scipy.linalg.sqrtm(one @ other).real
    apart = np.square(real.mean(0) - fake.mean(0)).sum()
    return apart + np.trace(one + other - 2 * root)


def images_of(run, count, seed):
    """Real test images as they are stored, and made ones, on the scale 0 to 1."""
    model = AutoModel.from_pretrained(run)
    data = dlarch.create_data("digits", train_size=200)
    data.prepare_data()
    data.setup("fit")
    real = torch.cat([data.processor.to_unit(b.image) for b in data.in_order("test")])
    pixels = model.generate(100, seed=seed)
    if count > 100:
        pixels += model.generate(count - 100, seed=seed + 100)
    fake = torch.tensor(np.stack(pixels)).permute(0, 3, 1, 2) / 255
    return real, fake


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_the_fid_is_the_closed_form_of_a_networks_features(runs, name):
    """Of grey images also for the VAE, which has learnt from black and white ones."""
    network = Means()
    found = judge_images(runs[name], fid=network, count=150, seed=7)
    colours = [part.expand(-1, 3, -1, -1) for part in images_of(runs[name], 150, 7)]
    real, fake = (network(part).double().numpy() for part in colours)
    assert found == {"fid": pytest.approx(closed_form(real, fake), rel=1e-3)}


def test_a_judge_says_what_it_sees(runs):
    found = judge_images(runs["vae"], by=str(runs["mlp"]))
    real, fake = images_of(runs["vae"], 179, 0)
    judge = Judge(str(runs["mlp"]), (1, 8, 8), [str(digit) for digit in range(10)])
    true, seen = judge.see(real), judge.see(fake)
    moments = [part.features.double().numpy() for part in (true, seen)]
    assert found["frechet_classifier"] == pytest.approx(closed_form(*moments), rel=1e-2)
    sure, classes = seen.probabilities.max(1)
    assert found["judge_confidence"] == pytest.approx(sure.mean().item(), rel=1e-5)
    shares = classes.bincount(minlength=10) / 179
    assert found["rarest_class"] == pytest.approx(shares.min().item())
    assert judge_images(runs["vae"], by=str(runs["mlp"])) == found
    assert judge_images(runs["vae"], by=str(runs["mlp"]), seed=1) != found


def test_the_command_prints_a_line_for_each_run(runs, capsys):
    words = ["judge", str(runs["vae"]), str(runs["gan"]), "--by", str(runs["mlp"]), "--n", "20"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [str(runs["vae"]), str(runs["gan"])]
    for line in lines:
        figures = dict(figure.split() for figure in line.split("  ")[1:])
        assert list(figures) == ["frechet_classifier", "judge_confidence", "rarest_class"]
        assert float(figures["frechet_classifier"]) > 0


def test_what_cannot_be_judged(runs, capsys):
    with pytest.raises(OptionError, match="Say who is to judge"):
        judge_images(runs["vae"])
    with pytest.raises(MismatchError, match="MLP makes no images"):
        judge_images(runs["mlp"], fid=Means())
    assert main(["judge", str(runs["vae"]), "--fid", "--device", "moon"]) == 2
    assert "--device moon cannot be used" in capsys.readouterr().err
    with pytest.raises(MismatchError, match=r"sorts no images|no classifier"):
        judge_images(runs["vae"], by=str(runs["gan"]))


def test_without_package_or_weights_the_fid_is_not_measured(runs, monkeypatch, tmp_path):
    monkeypatch.setattr(made, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"not measured: torch-fidelity .* pip install 'dlarch"):
        judge_images(runs["vae"], fid=True)
    monkeypatch.setattr(made, "find_spec", lambda name: name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_network(*_, **__):
        raise OSError("no network here")

    monkeypatch.setattr("dlarch.hub.imagenet.urlopen", no_network)
    with pytest.raises(CheckpointError, match=r"not measured: no weights.*get https://\S+\.pth"):
        judge_images(runs["vae"], fid=True)
    place = tmp_path / "hub" / "checkpoints" / made.INCEPTION.rpartition("/")[2]
    place.parent.mkdir(parents=True)
    torch.save(Means(), place)  # a pickled object, which would run code
    with pytest.raises(CheckpointError, match=r"not measured: .* holds no weights, or is damaged"):
        judge_images(runs["vae"], fid=True)


# ---- the data of a run


def test_the_data_of_a_run_are_made_again(runs, tmp_path):
    data = create_data_of(runs["vae"])
    assert data.registry_name == "digits"
    assert data.train_size == 200
    assert data.targets == "dynamic"
    assert create_data_of(runs["vae"], train_size=50).train_size == 50
    AutoModel.from_pretrained(runs["vae"]).save_pretrained(tmp_path / "saved")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        create_data_of(tmp_path / "nowhere")
