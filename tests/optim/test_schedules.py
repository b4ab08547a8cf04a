import math

import pytest
import torch

from dlarch.errors import OptionError
from dlarch.optim import WarmupCosine, WarmupInverseSqrt


def rates(steps, kind=WarmupCosine, peak=0.5, **options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = kind(optimizer, **options)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_rises_linearly_then_falls_along_a_half_cosine():
    seen = rates(12, warmup_steps=4, total_steps=10)
    assert seen[:4] == pytest.approx([0.125, 0.25, 0.375, 0.5])
    expected = [0.25 * (1 + math.cos(math.pi * t / 6)) for t in range(6)]
    assert seen[4:10] == pytest.approx(expected)
    assert seen[10:] == pytest.approx([0.0, 0.0], abs=1e-12)


def test_equals_torch_cosine_annealing_without_warmup():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.05)
    seen = []
    for _ in range(20):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert rates(20, warmup_steps=0, total_steps=20, final_share=0.1) == pytest.approx(seen)


def test_unknown_length_is_a_clear_error():
    with pytest.raises(OptionError, match="max_epochs"):
        rates(3, warmup_steps=1)


def test_a_longer_training_stretches_the_rest_of_the_fall():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    before = WarmupCosine(optimizer, warmup_steps=0, total_steps=10)
    after = WarmupCosine(optimizer, warmup_steps=0, total_steps=20)
    for _ in range(5):
        optimizer.step()
        before.step()
    after.load_state_dict(before.state_dict())
    assert after.total_steps == 20
    assert after.last_epoch == 5
    assert after.factor(10) == pytest.approx(0.5)


@pytest.mark.parametrize("options", [{"warmup_steps": -1}, {"final_share": 1.5}])
def test_impossible_arguments_are_refused(options):
    with pytest.raises(OptionError, match="warmup_steps >= 0"):
        rates(1, **options)


def test_inverse_square_root_is_the_formula_of_the_transformer_paper():
    width, warmup = 256, 8
    seen = rates(40, WarmupInverseSqrt, (width * warmup) ** -0.5, warmup_steps=warmup)
    paper = [width**-0.5 * min(step**-0.5, step * warmup**-1.5) for step in range(1, 41)]
    assert seen == pytest.approx(paper)
    with pytest.raises(OptionError, match="warmup_steps >= 1"):
        rates(1, WarmupInverseSqrt, warmup_steps=0)
