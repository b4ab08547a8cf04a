import pytest
import torch
from torch import nn
from torchvision.models import resnet18, vgg16

from dlarch.errors import OptionError
from dlarch.nn import (
    activation_layers,
    as_constants,
    cut_after,
    cut_off,
    last_layer,
    layer_groups,
    layers_up_to,
    watched,
)


def named(network, parts):
    names = {id(module): name for name, module in network.named_modules()}
    return [names[id(part)] for part in parts]


def test_the_last_layer_is_the_output_layer():
    assert last_layer(resnet18()) == "fc"
    assert last_layer(vgg16()) == "classifier.6"
    with pytest.raises(OptionError, match="no layers with parameters"):
        last_layer(nn.ReLU())


def test_a_network_cut_at_its_output_is_the_network_without_it():
    torch.manual_seed(0)
    network, image = resnet18().eval(), torch.randn(2, 3, 64, 64)
    logits, output = network(image), network.fc
    cut_off(network, "fc")
    assert torch.equal(output(network(image)), logits)
    assert not list(network.fc.parameters())


def test_a_network_cut_further_down_is_what_lies_before():
    torch.manual_seed(0)
    network, image = resnet18().eval(), torch.randn(2, 3, 64, 64)
    x = network.maxpool(network.relu(network.bn1(network.conv1(image))))
    x = network.layer3[0](network.layer2(network.layer1(x)))
    wanted = x.mean((2, 3))
    cut_off(network, "layer3.1")
    torch.testing.assert_close(network(image), wanted)
    count = sum(parameter.numel() for parameter in network.parameters())
    rest = resnet18()
    left_out = (rest.layer3[1], rest.layer4, rest.fc)
    whole = sum(parameter.numel() for parameter in rest.parameters())
    assert count == whole - sum(p.numel() for part in left_out for p in part.parameters())


def test_activations_after_the_cut_go_too():
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Tanh())
    x = torch.randn(5, 3)
    wanted = network[:2](x)
    cut_off(network, "2")
    assert torch.equal(network(x), wanted)


def test_layers_up_to_a_name_are_those_before_and_itself():
    network = resnet18()
    assert named(network, layers_up_to(network, "layer2.0")) == [
        "conv1", "bn1", "relu", "maxpool", "layer1", "layer2.0",
    ]  # fmt: skip


def test_groups_hold_each_parameter_once_from_input_to_output():
    network = resnet18()
    groups = layer_groups(network)
    # conv1 with its normalisation, two blocks in each of four stages, fc
    assert [len(group) for group in groups] == [3, 6, 6, 9, 6, 9, 6, 9, 6, 2]
    flat = [id(parameter) for group in groups for parameter in group]
    assert flat == [id(parameter) for parameter in network.parameters()]
    # VGG16: 13 convolutions and 3 linear layers, each with its bias
    assert [len(group) for group in layer_groups(vgg16())] == [2] * 16
    # a wrapper is looked into
    network.fc = nn.Identity()
    wrapped = nn.ModuleDict({"body": nn.ModuleDict({"network": network}), "head": nn.ReLU()})
    assert [len(group) for group in layer_groups(wrapped)] == [3, 6, 6, 9, 6, 9, 6, 9, 6]


def test_a_layer_that_is_not_there_is_refused_with_the_nearest():
    network = resnet18()
    for function in (cut_off, layers_up_to):
        with pytest.raises(OptionError, match=r"no layer 'layer5'. Did you mean 'layer"):
            function(network, "layer5")


def test_a_network_cut_after_a_layer_ends_with_it():
    torch.manual_seed(0)
    network, image = resnet18().eval(), torch.randn(2, 3, 64, 64)
    x = network.maxpool(network.relu(network.bn1(network.conv1(image))))
    wanted = network.layer2[0](network.layer1(x)).mean((2, 3))
    cut_after(network, "layer2.0")
    torch.testing.assert_close(network(image), wanted)
    assert not list(network.layer2[1].parameters())
    with pytest.raises(OptionError, match="no layer 'layer9'"):
        cut_after(network, "layer9")


def test_constants_are_no_parameters_and_compute_the_same():
    torch.manual_seed(0)
    network, image = resnet18().eval(), torch.randn(2, 3, 64, 64)
    wanted, names = network(image), list(network.state_dict())
    as_constants(network)
    assert not list(network.parameters())
    assert sorted(network.state_dict()) == sorted(names)
    found = network(image.requires_grad_())
    assert torch.equal(found, wanted)
    found.sum().backward()
    assert image.grad.ne(0).any()


def test_layers_are_watched_the_first_time_that_they_run():
    twice = nn.Linear(2, 2)
    network = nn.Sequential(twice, nn.Tanh(), twice)
    x = torch.randn(3, 2)
    with watched({"first": twice, "bend": network[1]}) as seen:
        network(x)
    assert torch.equal(seen["first"].inputs, x)
    assert torch.equal(seen["first"].outputs, twice(x))
    assert torch.equal(seen["bend"].outputs, twice(x).tanh())
    assert not twice._forward_hooks
    with pytest.raises(RuntimeError), watched({"first": twice}):
        network(torch.randn(3, 5))
    assert not twice._forward_hooks


def test_activations_are_found_by_their_kind():
    network = nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Sequential(nn.Dropout(), nn.ReLU()))
    assert activation_layers(network) == ["1", "2.1"]
