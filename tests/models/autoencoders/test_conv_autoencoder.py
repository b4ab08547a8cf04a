"""Convolutions down and transposed ones up: sizes, transposes, weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from dlarch import create_model
from dlarch.errors import OptionError
from dlarch.nn import He, initialize


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 16, 24), (2, 13, 7), (1, 5, 30)])
@pytest.mark.parametrize("widths", [(4,), (4, 6)])
def test_an_image_comes_back_in_its_size(shape, widths):
    model = create_model("conv_autoencoder", image_shape=shape, widths=widths, code_size=3)
    image = torch.rand(2, *shape)
    assert model.encode(image).shape == (2, 3)
    assert model(image).shape == (2, *shape)


def test_images_that_cannot_be_halved_so_often_are_refused():
    with pytest.raises(OptionError, match="6 x 7 are too small for 3 stages"):
        create_model("conv_autoencoder", image_shape=(1, 6, 7), widths=(4, 4, 4))
    with pytest.raises(OptionError, match="at least one stage"):
        create_model("conv_autoencoder", image_shape=(1, 8, 8), widths=())


def test_the_way_back_is_the_transpose_of_the_way_there():
    """<conv(x), y> = <x, conv_transpose(y)> with the same filters, at even and odd sides."""
    model = create_model("conv_autoencoder", image_shape=(2, 10, 13), widths=(5,), code_size=3)
    down = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    up = next(layer for layer in model.modules() if isinstance(layer, nn.ConvTranspose2d))
    x, y = torch.randn(1, 2, 10, 13), torch.randn(1, 5, 5, 6)
    with torch.no_grad():
        up.weight.copy_(down.weight)
        there = F.conv2d(x, down.weight, stride=2, padding=1)
        back = up(y) - up.bias[:, None, None]
        torch.testing.assert_close((there * y).sum(), (x * back).sum())


def test_number_of_parameters():
    model = create_model("conv_autoencoder", image_shape=(1, 28, 28), widths=(32, 64), code_size=30)
    down = (16 * 32 + 32) + (32 * 16 * 64 + 64) + (64 * 49 * 30 + 30)
    up = (30 * 64 * 49 + 64 * 49) + (64 * 16 * 32 + 32) + (32 * 16 + 1)
    assert sum(each.numel() for each in model.parameters()) == down + up


def test_signals_keep_their_size_through_a_transposed_convolution():
    """Drawn for ReLU: each place gets k^2 / s^2 of the filter's places, and twice their power."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(64, 64, 4, 2, 1, bias=False)
    initialize(layer, He())
    signal = torch.randn(4, 64, 20, 20).clamp_min(0)
    power = layer(signal)[..., 4:-4, 4:-4].square().mean()
    assert power.item() == pytest.approx(2 * signal.square().mean().item(), rel=0.05)
