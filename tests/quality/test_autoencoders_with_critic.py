"""Codes that lie as drawn ones do, and sharp images: what minutes of one core must reach."""

import numpy as np
import pytest
import torch

import dlarch
from dlarch import AutoModel
from dlarch.tasks.judge import Judge
from dlarch.tasks.made import ClassifierFrechet, SquaredMMD

pytestmark = [pytest.mark.quality, pytest.mark.long, pytest.mark.timeout(3600)]

MNIST = "ylecun/mnist"
SHORT = "--data.train_size 10000 --model.pictures false"


def of_test(name, model):
    """The data that a model was trained on, ready for the test."""
    data = dlarch.create_data(name, processor=model.processor, batch_size=500)
    data.prepare_data()
    data.setup("test")
    return data


@torch.no_grad()
def moved_mmd(folder, name):
    """That of codes which an affine map has given the mean and covariance of the draws."""
    model = AutoModel.from_pretrained(folder).eval()
    codes, drawn = [], []
    for batch in of_test(name, model).in_order("test"):
        images = model.as_unit(batch)
        codes.append(model.encode(images.image))
        drawn.append(model.prior(model._noise(images)[:, 1]))
    codes, drawn = (torch.cat(each)[:1000] for each in (codes, drawn))
    white = torch.linalg.cholesky(torch.linalg.inv(codes.T.cov()))
    moved = (codes - codes.mean(0)) @ white @ torch.linalg.cholesky(drawn.T.cov()).T
    metric = SquaredMMD()
    metric.update(drawn, moved + drawn.mean(0))
    return float(metric.compute())


def test_a_critic_puts_codes_of_digits_where_draws_are(fit):
    """In the plane, where gaps between the Gaussians are no matter of place and scale."""
    for words in ("", " --model.code_size 2", " --model.code_size 2 --model.prior mixture"):
        words = f"--config adversarial_autoencoder --model.pictures false{words}"
        held, plain = (fit(f"{words} --model.adversarial_weight {weight}") for weight in (10, 0))
        moved = [moved_mmd(run.folder, "digits") for run in (held, plain)]
        print(words, held.metrics, plain.metrics, {"moved": moved})
        assert held.metrics["test/code_mmd"] < plain.metrics["test/code_mmd"] / 5
        assert held.metrics["test/mmd"] < plain.metrics["test/mmd"]
        assert held.metrics["test/sse"] < 1.5 * plain.metrics["test/sse"]


def test_a_critic_puts_codes_of_mnist_where_draws_are(fit, need_stored):
    need_stored(MNIST)
    words = f"--config adversarial_autoencoder_mnist {SHORT} --trainer.max_epochs 12"
    words += " --model.hidden_sizes [400,400] --model.critic_sizes [200,200]"
    held, plain = (fit(f"{words} --model.adversarial_weight {weight}") for weight in (10, 0))
    moved = [moved_mmd(run.folder, "mnist") for run in (held, plain)]
    print(held.metrics, plain.metrics, {"moved": moved})
    assert held.metrics["test/code_mmd"] < plain.metrics["test/code_mmd"] / 5
    assert held.metrics["test/mmd"] < plain.metrics["test/mmd"]
    assert held.metrics["test/sse"] < 1.1 * plain.metrics["test/sse"]


# ---- VAE-GAN

JUDGE = "--model cnn --data mnist --data.train_size 10000 --model.widths [16,32]"
JUDGE += " --model.convolutions 1 --trainer.max_epochs 3 --seed_everything 1 --model.pictures false"
NETWORK = "--data.batch_size 64 --trainer.max_epochs 6 --model.code_size 10"
NETWORK += " --model.widths [16,32] --model.hidden_sizes [128]"


@torch.no_grad()
def frechet(folder, judge_folder, count=5000):
    """Squared distances from as many test images: of drawn images, and of those drawn again."""
    model = AutoModel.from_pretrained(folder).eval()
    data = of_test("mnist", model)
    real = torch.cat([model.as_unit(batch).image for batch in data.in_order("test")])[:count]
    drawn = torch.from_numpy(np.stack(model.generate(count, seed=0))).permute(0, 3, 1, 2) / 255
    again = torch.cat([model(part) for part in real.split(500)]).clamp(0, 1)
    judge = Judge(str(judge_folder), (1, 28, 28), data.processor.class_names)
    found = []
    for images in (drawn, again):
        metric = ClassifierFrechet()
        metric.update(judge.see(real).features, judge.see(images).features)
        found.append(float(metric.compute()))
    return found


def test_images_of_a_vae_gan_are_nearer_to_real_ones_than_those_of_a_vae(fit, need_stored):
    """By what a classifier reads in them, after equally many epochs of the same layers."""
    need_stored(MNIST)
    judge = fit(JUDGE)
    assert judge.metrics["test/accuracy"] > 0.95
    words = f"--config vae_gan_mnist {SHORT} {NETWORK} --model.critic_sizes [128]"
    run = fit(f"{words} --model.judge {judge.folder}")
    plain = f"--model vae --data mnist --seed_everything 1 {SHORT} {NETWORK}"
    plain = fit(f"{plain} --model.activation relu --model.importance_samples 1")
    ours, theirs = (frechet(each.folder, judge.folder) for each in (run, plain))
    print(run.metrics, plain.metrics, ours, theirs)
    assert run.metrics["test/rarest_class"] >= 0.03
    assert run.metrics["test/judge_confidence"] >= 0.7
    assert ours[0] < 0.6 * theirs[0]
    assert ours[1] < theirs[1]
