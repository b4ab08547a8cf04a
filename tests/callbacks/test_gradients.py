import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from dlarch.callbacks import gradients
from dlarch.callbacks.gradients import GradientNorms, gradient_norms


def torchs_norm(parameters):
    """What torch's own clipping reports; an infinite limit clips nothing."""
    return torch.nn.utils.clip_grad_norm_(list(parameters), float("inf")).item()


def logged(runs, name):
    return {event.step: event.value for event in runs.events.Scalars(f"gradients/{name}")}


@pytest.fixture
def observed(task):
    """A model that measures its gradients with torch's own function, before each step."""

    class Observed(task):
        def on_before_optimizer_step(self, optimizer):
            self.seen = getattr(self, "seen", [])
            parts = {"total": self, "encoder": self.encoder, "head": self.head}
            self.seen.append({n: torchs_norm(part.parameters()) for n, part in parts.items()})

    return Observed()


def test_norms_are_those_of_torch_before_clipping_every_n_steps(runs, observed):
    runs.fit(observed, GradientNorms(), gradient_clip_val=1e-3, log_every_n_steps=3)
    assert len(observed.seen) == 8
    for name in ("total", "encoder", "head"):
        expected = {step: observed.seen[step][name] for step in (2, 5)}
        assert logged(runs, name) == pytest.approx(expected, rel=1e-5)
        assert min(expected.values()) > 0.01  # far above the clip
    assert {e.step for e in runs.events.Scalars("train/loss_step")} == {2, 5}  # the same axis


def test_accumulated_gradients_are_measured_whole(runs, observed):
    runs.fit(observed, GradientNorms(), accumulate_grad_batches=2)
    assert len(observed.seen) == 4
    expected = {step: observed.seen[step]["total"] for step in (1, 3)}
    assert logged(runs, "total") == pytest.approx(expected, rel=1e-5)


def test_an_optimizer_that_searches_is_measured_once_a_step(runs, task):
    class Searching(task):
        def configure_optimizers(self):
            return torch.optim.LBFGS(self.parameters(), max_iter=3)

    runs.fit(Searching(), GradientNorms())
    steps = [event.step for event in runs.events.Scalars("gradients/total")]
    assert len(steps) > 1
    assert sorted(set(steps)) == steps


def test_other_steps_ranks_and_runs_without_logger_measure_nothing(runs, task, monkeypatch):
    calls = []
    monkeypatch.setattr(gradients, "gradient_norms", lambda *_, **__: calls.append(1) or {})
    runs.fit(task(), GradientNorms(), log_every_n_steps=4)
    assert len(calls) == 2
    runs.fit(task(), GradientNorms(), log_every_n_steps=9)
    runs.fit(task(), GradientNorms(), logger=False)
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    runs.fit(task(), GradientNorms())
    assert len(calls) == 2


def test_two_optimizers_are_measured_with_their_own_parameters(runs, task):
    class Adversaries(task):
        def __init__(self):
            super().__init__()
            self.automatic_optimization, self.seen = False, []

        def training_step(self, batch, batch_idx):
            for optimizer, part in zip(self.optimizers(), (self.encoder, self.head), strict=True):
                self.zero_grad()
                self.manual_backward(self.head(self.encoder(batch[0])).square().mean())
                self.seen.append(torchs_norm(part.parameters()))
                optimizer.step()

        def configure_optimizers(self):
            return [torch.optim.SGD(m.parameters(), 0.1) for m in (self.encoder, self.head)]

    model = Adversaries()
    runs.fit(model, GradientNorms())
    steps = (1, 3, 5, 7)
    assert logged(runs, "total_0") == pytest.approx({s: model.seen[2 * s] for s in steps})
    assert logged(runs, "total_1") == pytest.approx({s: model.seen[2 * s + 1] for s in steps})
    assert logged(runs, "head") == logged(runs, "total_1")


def test_sparse_half_precision_shared_and_unused_parameters():
    model = nn.ModuleDict(
        {
            "embedding": nn.Embedding(5, 3, sparse=True),
            "coarse": nn.Linear(3, 3).bfloat16(),
            "unused": nn.Linear(3, 3),
        }
    )
    model.coarse.shared = model.embedding.weight
    model.embedding(torch.tensor([1, 1, 4])).square().sum().backward()
    model.coarse.weight.grad = torch.full((3, 3), 100.0, dtype=torch.bfloat16)
    norms = gradient_norms(model.named_parameters())
    dense = model.embedding.weight.grad.to_dense().norm().item()
    assert norms == pytest.approx(
        {"total": (dense**2 + 300.0**2) ** 0.5, "embedding": dense, "coarse": 300.0}
    )


def test_without_gradients_there_are_no_norms():
    assert gradient_norms(nn.Linear(2, 2).named_parameters()) == {}
