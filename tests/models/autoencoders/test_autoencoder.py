"""The plain autoencoder: its layers, its losses, and principal components where it is linear."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch import create_model
from dlarch.batches import ImageBatch
from dlarch.processing import ImageProcessor


def images(count=6, seed=0, shape=(1, 6, 5)):
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(seed))


def batch(count=6, **options):
    return ImageBatch(images(count, **options), torch.zeros(count).long(), torch.arange(count))


def make(**options):
    torch.manual_seed(0)
    sizes = {"image_shape": (1, 6, 5), "code_size": 3, "hidden_sizes": (16, 8)}
    return create_model("autoencoder", **sizes | options).eval()


def test_it_has_the_parameters_of_the_network_of_2006():
    """784-1000-500-250-30 and back: weights and biases, as Hinton and Salakhutdinov have them."""
    model = create_model("autoencoder", image_shape=(1, 28, 28))
    sizes = [784, 1000, 500, 250, 30, 250, 500, 1000, 784]
    expected = sum(a * b + b for a, b in itertools.pairwise(sizes))
    assert sum(each.numel() for each in model.parameters()) == expected == 2_837_314


def test_it_is_the_layers_written_out():
    model = make(likelihood="gaussian")
    x = images().flatten(1)
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in linear] == [
        (16, 30), (8, 16), (3, 8), (8, 3), (16, 8), (30, 16)
    ]  # fmt: skip
    for place, layer in enumerate(linear):
        x = x @ layer.weight.T + layer.bias
        x = x.clamp_min(0) if place not in (2, 5) else x  # neither code nor pixels are bent
    torch.testing.assert_close(model(images()).flatten(1), x)


def test_losses_are_those_of_torch_summed_over_pixels():
    there = batch()
    squares = make(likelihood="gaussian")
    expected = F.mse_loss(squares(there.image), there.image, reduction="sum")
    torch.testing.assert_close(squares.losses(there).sum(), expected)
    crossed = make(likelihood="bernoulli")
    expected = F.binary_cross_entropy(crossed(there.image), there.image, reduction="sum")
    torch.testing.assert_close(crossed.losses(there).sum(), expected)


def test_a_code_may_have_an_activation():
    assert (make(code_activation="relu").encode(images()) >= 0).all()
    assert (make().encode(images()) < 0).any()
    wide = make(code_activation="maxout")  # made of twice as many units
    assert wide.encode(images()).shape == (6, 3)
    assert wide(images()).shape == (6, 1, 6, 5)


def test_linear_layers_with_squared_errors_come_to_principal_components():
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, 4)) @ random.normal(size=(4, 12)) * 0.1 + 0.5
    rows += 0.02 * random.normal(size=rows.shape)
    pca = PCA(3).fit(rows)
    best = ((pca.inverse_transform(pca.transform(rows)) - rows) ** 2).sum(1).mean()
    x = torch.from_numpy(rows).float().view(-1, 1, 3, 4)
    torch.manual_seed(0)
    model = create_model(
        "autoencoder", image_shape=(1, 3, 4), code_size=3, hidden_sizes=(), likelihood="gaussian"
    )
    optimizer = optim.LBFGS(model.parameters(), max_iter=500, line_search_fn="strong_wolfe")
    there = ImageBatch(x, torch.zeros(len(x)).long())

    def closure():
        optimizer.zero_grad()
        loss = model.losses(there).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert model.losses(there).mean().item() == pytest.approx(best, rel=1e-3)
    # and what it lets pass is the same plane
    with torch.no_grad():
        passed = model(x).flatten(1).numpy()
    np.testing.assert_allclose(passed, pca.inverse_transform(pca.transform(rows)), atol=2e-2)


def test_pixels_are_seen_as_they_are_however_they_were_normalised():
    model = make()
    model.processor = ImageProcessor((1, 6, 5), [0.2], [0.5], ["a"])
    there = batch()
    seen = model.as_unit(there._replace(image=(there.image - 0.2) / 0.5))
    torch.testing.assert_close(seen.image, there.image)


def test_what_only_decodes_is_found_and_dropped():
    model = make()
    with torch.no_grad():
        codes = model.encode(images())
    decoder = {id(each) for each in model.decoder.parameters()}
    assert {id(each) for each in model.only_decodes()} == decoder
    model.drop_decoder()
    assert all("encoder" in name for name, _ in model.named_parameters())
    assert torch.equal(model.encode(images()), codes)


def test_interpolations_begin_and_end_at_reconstructions():
    model = make()
    with torch.no_grad():
        codes = model.encode(images())
        drawn = model.between(codes)
        assert drawn.shape == (3, 8, 1, 6, 5)
        torch.testing.assert_close(drawn[:, 0], model.decode(codes[0::2]))
        torch.testing.assert_close(drawn[:, -1], model.decode(codes[1::2]))
