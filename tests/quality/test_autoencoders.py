"""Images in a few numbers: what minutes of one core must reach."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from dlarch import create_baseline, create_data
from dlarch.baselines import score
from dlarch.tasks.cluster_metrics import matched

pytestmark = [pytest.mark.quality, pytest.mark.timeout(3600)]

SMALL = "--data.train_size 10000"


@pytest.fixture(autouse=True)
def images(need_stored):
    """MNIST, or a skip that says so."""
    need_stored("ylecun/mnist")


def mnist(**options):
    data = create_data("mnist", **options)
    data.prepare_data()
    data.setup("fit")
    return data


@torch.no_grad()
def pixels(data, split):
    """Rows of pixels, 0 to 1, and labels."""
    batches = list(data.in_order(split))
    unit = [data.processor.to_unit(batch.image).flatten(1).numpy() for batch in batches]
    return np.concatenate(unit), np.concatenate([batch.label.numpy() for batch in batches])


@pytest.mark.long
def test_the_autoencoder_beats_principal_components_of_its_size(fit):
    found = fit("--config autoencoder_mnist --trainer.max_epochs 3").metrics
    data = mnist()
    pca = PCA(30, random_state=0).fit(pixels(data, "train")[0])
    test, _ = pixels(data, "test")
    errors = np.square(pca.inverse_transform(pca.transform(test)) - test).sum(1).mean()
    print({"autoencoder": found["test/sse"], "principal components": float(errors)})
    assert found["test/sse"] < errors


@pytest.mark.long
def test_codes_of_a_denoising_autoencoder_tell_what_pixels_tell(fit):
    words = f"--config denoising_autoencoder_mnist {SMALL} --model.code_size 256"
    run = fit(f"{words} --trainer.max_epochs 5")
    assert run.metrics["test/denoised_mse"] < 0.5 * run.metrics["test/noisy_mse"]
    data, probe = mnist(train_size=10000), create_baseline("logistic_regression")
    on_pixels = score(probe, data, features="pixels").metrics["test/accuracy"]
    on_codes = score(probe, data, features="codes", run=str(run.folder)).metrics["test/accuracy"]
    print({"pixels": on_pixels, "codes": on_codes, **run.metrics})
    assert on_codes >= on_pixels - 0.005


@pytest.mark.long
def test_clusters_of_codes_are_more_like_classes_than_those_of_pixels(fit):
    """By k-means on pixels, by k-means on codes, and when the codes may move."""
    words = f"--config dec_mnist {SMALL} --data.batch_size 128 --model.hidden_sizes [500,1000]"
    words += " --model.pretrain_epochs 10 --model.update_steps 79 --model.tolerance 0.0"
    codes = fit(f"{words} --trainer.max_epochs 10").metrics["test/cluster_accuracy"]
    run = fit(f"{words} --trainer.max_epochs 20")
    data = mnist(train_size=10000, validation_size=0)
    train, (test, labels) = pixels(data, "train")[0], pixels(data, "test")
    clusters = KMeans(10, n_init=3, random_state=0).fit(train).predict(test)
    plain = matched(clusters.astype(np.int64), labels)
    moved = run.metrics["test/cluster_accuracy"]
    print({"pixels": plain, "codes": codes, "dec": moved})
    assert codes >= plain + 0.10
    assert moved >= codes
