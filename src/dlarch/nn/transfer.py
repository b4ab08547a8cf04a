"""Networks that are built upon: cut off at a layer, frozen up to one, divided into groups, watched.

Layers are named by their paths, such as `layer4.1.conv2`, and come in the order in which they were
made, which is that in which data meet them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from dlarch.errors import OptionError, did_you_mean
from dlarch.nn.activations import ACTIVATIONS

RESHAPING = (
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.Flatten,
)
"""Layers that stay when what lies before them is cut off: they make one row of what is left."""


def last_layer(network: nn.Module) -> str:
    """Name of the last layer with parameters of its own: the output layer."""
    names = [name for name, layer in network.named_modules() if list(layer.parameters(False))]
    if not names:
        raise OptionError(f"{type(network).__name__} has no layers with parameters.")
    return str(names[-1])


def cut_off(network: nn.Module, name: str) -> None:
    """Let signals pass unchanged where the layer `name` was and all that come after it.

    Raises:
        OptionError: there is no such layer.
    """
    *parents, (holder, child) = _path(network, name)
    _pass_through(holder, child, itself=True)
    for outer, part in parents:
        _pass_through(outer, part, itself=False)


def cut_after(network: nn.Module, name: str) -> None:
    """Let signals pass unchanged after the layer `name`.

    Raises:
        OptionError: there is no such layer.
    """
    for holder, child in _path(network, name):
        _pass_through(holder, child, itself=False)


def _pass_through(holder: nn.Module, child: str, itself: bool) -> None:
    names = list(holder._modules)
    for name in names[names.index(child) + (0 if itself else 1) :]:
        if not isinstance(holder.get_submodule(name), RESHAPING):
            setattr(holder, name, nn.Identity())


def layers_up_to(network: nn.Module, name: str) -> list[nn.Module]:
    """The layer `name` and all before it.

    Raises:
        OptionError: there is no such layer.
    """
    found: list[nn.Module] = []
    for holder, child in _path(network, name):
        names = list(holder._modules)
        found += [holder.get_submodule(before) for before in names[: names.index(child)]]
    return [*found, network.get_submodule(name)]


def activation_layers(network: nn.Module) -> list[str]:
    """Names of the layers that are activations."""
    kinds = {type(make()) for name, make in ACTIVATIONS.items() if name != "identity"}
    return [name for name, layer in network.named_modules() if type(layer) in kinds]


def as_constants(network: nn.Module) -> None:
    """Turn all parameters into buffers: they travel with the weights, but nothing trains them."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach())


class Signal(NamedTuple):
    """What a layer reads and what it makes of it."""

    inputs: Tensor
    outputs: Tensor


@contextmanager
def watched(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Signal]]:
    """Gather what layers read and give, by their names here, the first time that each is run."""
    found: dict[str, Signal] = {}

    def keeper(name: str) -> Any:
        def keep(_: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
            found.setdefault(name, Signal(inputs[0], outputs))

        return keep

    hooks = [layer.register_forward_hook(keeper(name)) for name, layer in layers.items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def layer_groups(network: nn.Module) -> list[list[nn.Parameter]]:
    """All parameters, in groups from the input to the output.

    A group is a part of the network, or of an `nn.Sequential` in it: a convolution, a residual
    block. What has no weights of two or more dimensions, such as a normalisation, belongs to the
    group before it.
    """
    groups: list[list[nn.Parameter]] = []
    own = list(network.parameters(recurse=False))
    for parameters in [own, *(list(part.parameters()) for part in _parts(network))]:
        if groups and all(parameter.dim() < 2 for parameter in parameters):
            groups[-1] += parameters
        elif parameters:
            groups.append(parameters)
    return groups


def _parts(network: nn.Module) -> Iterator[nn.Module]:
    parts = [child for child in network.children() if list(child.parameters())]
    if len(parts) == 1 and list(parts[0].children()) and not list(parts[0].parameters(False)):
        yield from _parts(parts[0])  # a network in a wrapper
        return
    for part in parts:
        yield from part.children() if isinstance(part, nn.Sequential) else [part]


def _path(network: nn.Module, name: str) -> list[tuple[nn.Module, str]]:
    """Each module on the way to a layer, with the name of the next one in it."""
    known = [path for path, _ in network.named_modules() if path]
    if name not in known:
        raise OptionError(
            f"{type(network).__name__} has no layer {name!r}.{did_you_mean(name, known)} "
            f"It has: {', '.join(path for path, _ in network.named_children())}, and those in them."
        )
    steps, holder = [], network
    for part in name.split("."):
        steps.append((holder, part))
        holder = holder.get_submodule(part)
    return steps
