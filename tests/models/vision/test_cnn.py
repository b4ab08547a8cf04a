import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import OptionError
from dlarch.models.vision.cnn import CNN


def test_equals_the_formula_written_out():
    torch.manual_seed(0)
    model = CNN(
        image_shape=(2, 6, 6), num_classes=3, widths=(4,), convolutions=1, batch_norm=False
    ).eval()
    image = torch.randn(1, 2, 6, 6)
    weight, bias = model.stages[0][0].weight, model.stages[0][0].bias
    padded = F.pad(image, (1, 1, 1, 1))[0]
    maps = torch.empty(4, 6, 6)
    for k in range(4):
        for i in range(6):
            for j in range(6):
                maps[k, i, j] = bias[k] + (weight[k] * padded[:, i : i + 3, j : j + 3]).sum()
    maps = maps.clamp_min(0)
    pooled = torch.stack(
        [maps[:, i : i + 2, j : j + 2].amax((1, 2)) for i in (0, 2, 4) for j in (0, 2, 4)], dim=1
    )
    wanted = model.output.weight @ pooled.flatten() + model.output.bias
    torch.testing.assert_close(model(image)[0], wanted, atol=1e-5, rtol=1e-5)


def test_a_shifted_image_gives_the_same_logits_when_maps_are_averaged():
    """Nothing but places at the edge tells where a pattern is."""
    torch.manual_seed(0)
    model = CNN(
        image_shape=(1, 16, 16), num_classes=3, widths=(4, 4), convolutions=1, average=True
    ).eval()
    image = torch.zeros(1, 1, 16, 16)
    image[..., 4:8, 4:8] = torch.rand(4, 4)
    shifted = image.roll((4, 4), (2, 3))
    torch.testing.assert_close(model(image), model(shifted), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        # conv: C * K * 9 weights, 2 K of batch normalisation; linear: K * 2 * 2 * 10 + 10
        ({"widths": (4, 8), "convolutions": 1}, (9 * 4 + 8) + (9 * 32 + 16) + 8 * 4 * 10 + 10),
        ({"widths": (4,), "convolutions": 2, "batch_norm": False, "average": True},
         (9 * 4 + 4) + (9 * 16 + 4) + 4 * 10 + 10),
    ],
)  # fmt: skip
def test_numbers_of_parameters_are_those_counted_by_hand(options, count):
    model = CNN(image_shape=(1, 8, 8), num_classes=10, **options)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_a_stage_is_halved_after_its_first_convolution_or_its_last():
    torch.manual_seed(0)
    shape = {"image_shape": (2, 6, 6), "num_classes": 3, "widths": (4, 5), "batch_norm": False}
    last, first = CNN(**shape), CNN(**shape, pool="first")
    kinds = [type(layer).__name__ for layer in first.stages]
    assert kinds == ["Sequential", "MaxPool2d", "Sequential"] * 2
    assert [type(layer).__name__ for layer in last.stages] == [
        "Sequential", "Sequential", "MaxPool2d"
    ] * 2  # fmt: skip
    image = torch.randn(3, 2, 6, 6)
    for model, order in ((first, (0, None, 1, 2, None, 3)), (last, (0, 1, None, 2, 3, None))):
        filters = [layer[0] for layer in model.stages if isinstance(layer, torch.nn.Sequential)]
        maps = image
        for place in order:
            if place is None:
                maps = F.max_pool2d(maps, 2)
            else:
                maps = F.conv2d(maps, filters[place].weight, filters[place].bias, padding=1).relu()
        wanted = maps.flatten(1) @ model.output.weight.T + model.output.bias
        torch.testing.assert_close(model(image), wanted, atol=1e-5, rtol=1e-5)


def test_too_many_stages_are_refused():
    with pytest.raises(OptionError, match="Images of 4 x 6 are too small for 3 stages"):
        CNN(image_shape=(1, 4, 6), num_classes=2)
