import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock
from torchvision.models.resnet import ResNet as TorchvisionResNet

from dlarch.models.vision.resnet import ResidualBlock, ResNet


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def copy_in_order(ours, theirs):
    """Give our model the values of theirs; both hold them in the order in which data meet them."""
    mine, values = ours.state_dict(), list(theirs.state_dict().values())
    assert len(mine) == len(values)
    ours.load_state_dict(dict(zip(mine, values, strict=True)))


def shaken(model):
    """The model with running means and gains that differ from map to map."""
    torch.manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2.0)
    return model.eval()


@pytest.mark.parametrize(
    ("depth", "count", "published"),
    [
        (20, 269_722, 0.27e6),
        (32, 464_154, 0.46e6),
        (44, 658_586, 0.66e6),
        (56, 853_018, 0.85e6),
        (110, 1_727_962, 1.7e6),
    ],
)
def test_small_networks_have_the_published_numbers_of_parameters(depth, count, published):
    """Table 6 of the paper; n blocks more per stage add as many parameters each time."""
    with torch.device("meta"):
        model = ResNet(image_shape=(3, 32, 32), num_classes=10, depth=depth)
    assert parameters(model) == count
    assert round(count, -4 if depth < 110 else -5) == published
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


def test_projections_cost_two_convolutions_of_one_pixel():
    model = ResNet(image_shape=(3, 32, 32), num_classes=10, depth=20, shortcut="projection")
    assert parameters(model) == 272_474 == 269_722 + (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)


@pytest.mark.parametrize(
    ("stem", "classes", "count"), [("large", 1000, 11_689_512), ("small", 10, 11_173_962)]
)
def test_resnet18_has_the_published_number_of_parameters(stem, classes, count):
    with torch.device("meta"):
        model = ResNet(image_shape=(3, 64, 64), num_classes=classes, depth=18, stem=stem)
    assert parameters(model) == count


def test_resnet18_equals_torchvisions_with_the_same_weights():
    torch.manual_seed(0)
    theirs = shaken(resnet18(num_classes=7))
    ours = ResNet(image_shape=(3, 64, 48), num_classes=7, depth=18, stem="large").eval()
    copy_in_order(ours, theirs)
    image = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), atol=1e-4, rtol=1e-4)


def test_a_narrow_network_with_the_small_stem_equals_torchvisions():
    torch.manual_seed(0)
    theirs = TorchvisionResNet(BasicBlock, [2, 2, 2, 2], num_classes=5)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    ours = ResNet(image_shape=(3, 9, 10), num_classes=5, depth=18).eval()
    copy_in_order(ours, shaken(theirs))
    image = torch.randn(2, 3, 9, 10)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_whose_convolutions_give_nothing_passes_its_input_on(stride):
    """Half of the places, and zeros for the maps that are missing (option A)."""
    block = ResidualBlock(3, 3 * stride, stride, "zeros").eval()
    nn.init.zeros_(block.norm2.weight)
    x = torch.rand(2, 3, 7, 8)
    found = block(x)
    assert found.shape == (2, 3 * stride, -(-7 // stride), 8 // stride)
    for i in range(found.shape[2]):
        for j in range(found.shape[3]):
            assert torch.equal(found[:, :3, i, j], x[:, :, stride * i, stride * j])
    assert found[:, 3:].eq(0).all()


def test_the_gradient_reaches_the_first_layer_of_a_deep_network():
    """Behind 108 layers it is about as large as behind 18; without shortcuts it would not be."""

    def first_gradient(depth):
        torch.manual_seed(0)
        model = ResNet(image_shape=(3, 16, 16), num_classes=10, depth=depth, width=4)
        nn.functional.cross_entropy(model(torch.randn(16, 3, 16, 16)), torch.arange(16) % 10
        ).backward()  # fmt: skip
        return model.stem[0].weight.grad.norm().item()

    assert 0.01 < first_gradient(110) / first_gradient(20) < 100
