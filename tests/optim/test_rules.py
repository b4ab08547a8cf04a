"""The optimizers written out against those of torch.optim, step by step."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from dlarch import optim
from dlarch.errors import OptionError

CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.7, "nesterov": True, "weight_decay": 0.1}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.2, "eps": 0.1, "weight_decay": 0.1}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.6, "eps": 1e-2, "weight_decay": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.8, "eps": 0.1, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 0.1, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 0.1, "weight_decay": 0.3}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 0.1, "weight_decay": 0.1}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 0.1, "weight_decay": 0.1,
               "momentum_decay": 0.1}),
]  # fmt: skip
NAMES = sorted({name for name, _ in CASES})
STEPS = 60
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def parameters(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (4,), (2, 3, 2), ()]
    drawn = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    return [nn.Parameter(tensor) for tensor in drawn]


def groups(parameters, **options):
    """Two groups; the second has a rate of its own."""
    return [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.03}]


def train(optimizer, steps, seed=1, closure=False):
    """Steps with random gradients of very different size, which the first parameter gets seldom."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                scale = 10.0 ** (step % 7 - 3)
                drawn = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                parameter.grad = drawn * scale
        if step % 3:
            optimizer.param_groups[0]["params"][0].grad = None
        optimizer.step()


@pytest.fixture
def default_type():
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_equals_torch_step_by_step(name, options, dtype, default_type):
    default_type(dtype)  # in which torch's NAdam keeps a number
    mine, theirs = parameters(dtype), parameters(dtype)
    ours = getattr(optim, name)(groups(mine), **options)
    reference = getattr(torch.optim, name)(groups(theirs), **options, foreach=False)
    for step in range(STEPS):
        train(ours, 1, seed=step)
        train(reference, 1, seed=step)
        found, expected = (parameters_to_vector(each).detach() for each in (mine, theirs))
        error = (found - expected).abs().max() / expected.abs().max()
        assert error <= TOLERANCE[dtype], step
    assert not torch.equal(mine[0], parameters(dtype)[0])


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_those_of_torch(name):
    theirs = getattr(torch.optim, name)(parameters()).defaults
    ours = getattr(optim, name)(parameters()).defaults
    assert ours == {key: theirs[key] for key in ours}


@pytest.mark.parametrize(("name", "options"), CASES)
def test_goes_on_from_its_state(name, options):
    straight, halfway = parameters(), parameters()
    optimizer = getattr(optim, name)(groups(straight), **options)
    first = getattr(optim, name)(groups(halfway), **options)
    for one in (optimizer, first):
        train(one, 20, seed=1)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = getattr(optim, name)(groups(halfway), lr=7.0)
    second.load_state_dict(torch.load(file, weights_only=True))
    for one in (optimizer, second):
        train(one, 20, seed=2)
    for one, other in zip(straight, halfway, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_a_closure_gives_loss_and_gradients(name):
    point, seen = nn.Parameter(torch.tensor([1.0, 2.0])), []
    optimizer = getattr(optim, name)([point], lr=0.01)

    def closure():
        optimizer.zero_grad()
        loss = point.square().sum()
        loss.backward()
        seen.append(loss.item())
        return loss

    assert optimizer.step(closure).item() == 5.0
    assert all(point.detach().abs() < torch.tensor([1.0, 2.0]))
    assert len(seen) == 1


@pytest.mark.parametrize("name", NAMES)
def test_sparse_gradients_are_refused_in_a_sentence(name):
    words = nn.Embedding(5, 2, sparse=True)
    optimizer = getattr(optim, name)(words.parameters())
    words(torch.tensor([1])).sum().backward()
    with pytest.raises(OptionError, match=rf"^dlarch\.optim\.{name} takes no sparse gradients: "):
        optimizer.step()


def test_a_copied_optimizer_has_a_memory_of_its_own():
    model = nn.Linear(2, 1)
    optimizer = optim.Adam(model.parameters())
    train(optimizer, 2)
    other = copy.deepcopy(optimizer)
    train(other, 1)
    assert [state["step"] for state in optimizer.state.values()] == [1, 2]


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("SGD", {"lr": -1.0}, "lr must not be negative, but is -1.0"),
        ("Adam", {"lr": float("nan")}, "lr must not be negative, but is nan"),
        ("SGD", {"momentum": 1.0}, "momentum must be at least 0 and less than 1, not 1.0"),
        ("SGD", {"nesterov": True}, "give momentum"),
        ("Adam", {"betas": (0.9, 1.0)}, r"betas must be at least 0 and less than 1, not \(0.9, 1"),
        ("RMSprop", {"alpha": -0.1}, "alpha must be"),
        ("Adadelta", {"rho": 1.5}, "rho must be"),
        ("Adagrad", {"eps": -1e-3}, "eps must not be negative"),
        ("AdamW", {"weight_decay": -0.1}, "weight_decay must not be negative"),
    ],
)
def test_settings_that_cannot_work_are_refused(name, options, complaint):
    with pytest.raises(OptionError, match=complaint):
        getattr(optim, name)(parameters(), **options)


def test_a_group_that_is_added_is_checked_too():
    optimizer = optim.Adam(parameters())
    with pytest.raises(OptionError, match="lr must not be negative"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": -0.1})
