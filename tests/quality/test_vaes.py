"""Images from codes, on MNIST: what minutes of one core must reach."""

import pytest
import torch

import dlarch
from dlarch.analysis.made import judge_images

pytestmark = [pytest.mark.quality, pytest.mark.timeout(3600)]

MNIST = "ylecun/mnist"
SHORT = "--trainer.max_epochs 5 --model.importance_samples 100 --model.pictures false"


@torch.no_grad()
def bounds(folder, counts):
    """The bounds by so many codes of each of the first 2,000 images of the test, in nats."""
    model = dlarch.AutoModel.from_pretrained(folder).eval()
    options = {"targets": "dynamic", "batch_size": 500, "processor": model.processor}
    data = dlarch.create_data("mnist", **options)
    data.prepare_data()
    data.setup("test")
    batches = [batch for batch, _ in zip(data.in_order("test"), range(4), strict=False)]
    found = []
    for count in counts:
        total = 0.0
        for batch in batches:
            posterior = model.posterior(batch.image)
            noise = model._noise(batch, count)
            total += float(model.importance_nll(batch.image, posterior, noise).mean())
        found.append(total / len(batches))
    return found


@pytest.mark.long
def test_a_vae_in_five_epochs_its_bounds_and_what_the_class_is_worth(fit, need_stored):
    need_stored(MNIST)
    plain = fit(f"--config vae_mnist {SHORT}")
    assert plain.metrics["test/loss"] <= 112
    assert plain.metrics["test/nll_is100"] < plain.metrics["test/loss"]
    assert plain.metrics["test/kl"] > 5
    assert plain.metrics["test/active_units"] > 8
    one, five, fifty = bounds(plain.folder, (1, 5, 50))
    assert fifty <= five <= one
    told = fit(f"--config cvae_mnist {SHORT}")
    assert told.metrics["test/loss"] <= plain.metrics["test/loss"] - 1.5
    print(plain.metrics, (one, five, fifty), told.metrics)


@pytest.mark.long
def test_a_dear_code_tells_factors_apart_better_than_a_vae(fit):
    words = "--config beta_vae --model.pictures false --seed_everything 1 --model.beta"
    plain, dear = (fit(f"{words} {beta}").metrics["test/mig"] for beta in (1, 4))
    assert dear > plain
    print(plain, dear)


CLASSIFIER = "--model cnn --data mnist --data.train_size 10000 --model.convolutions 1"
CLASSIFIER += " --trainer.max_epochs 3 --model.pictures false"


@pytest.mark.long
def test_features_of_one_network_make_images_better_in_the_eyes_of_another(fit, need_stored):
    """Than pixels do, in as many epochs, with the same encoder and decoder."""
    need_stored(MNIST)
    body = fit(f"{CLASSIFIER} --model.widths [16,32] --seed_everything 1").folder
    judge = fit(
        f"{CLASSIFIER} --model.widths [12,24,48] --model.kernel_size 5 --seed_everything 2"
    ).folder
    few = "--data.train_size 10000 --trainer.max_epochs 5 --model.pictures false"
    features = fit(f"--config dfc_vae_mnist {few} --model.body {body}").folder
    warm = "--model.scheduler dlarch.optim.WarmupCosine --model.scheduler.warmup_steps 100"
    same = "--model vae --model.code_size 20 --model.hidden_sizes [400,400]"
    same += (
        f" --model.activation relu --model.importance_samples 1 --model.optimizer.lr 0.002 {warm}"
    )
    data = "--data mnist --data.batch_size 100 --seed_everything 1"
    pixels = fit(f"{same} {data} {few}").folder
    found = {
        (model, eyes): judge_images(run, str(network))["frechet_classifier"]
        for model, run in (("features", features), ("pixels", pixels))
        for eyes, network in (("judge", judge), ("body", body))
    }
    print(found)
    assert found["features", "judge"] < found["pixels", "judge"]
