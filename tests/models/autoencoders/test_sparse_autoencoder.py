"""Codes of which most is silent: the k largest, L1, and KL of the mean."""

import lightning as L  # noqa: N812
import pytest
import torch
from torch.distributions import Bernoulli, kl_divergence
from torch.nn import functional as F  # noqa: N812

from dlarch import create_model
from dlarch.batches import ImageBatch
from dlarch.errors import OptionError
from dlarch.nn import bernoulli_kl, keep_largest
from dlarch.tasks import IdleUnits


def make(**options):
    torch.manual_seed(0)
    sizes = {"image_shape": (1, 8, 8), "code_size": 30, "k": 4}
    return create_model("sparse_autoencoder", **sizes | options).eval()


def batch(count=12):
    image = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return ImageBatch(image, torch.zeros(count).long(), torch.arange(count))


def test_the_k_largest_stay_as_they_are():
    code = torch.tensor([[0.1, 3.0, -2.0, 2.0], [-1.0, -2.0, -3.0, -4.0]])
    kept = torch.tensor([[0.0, 3.0, 0.0, 2.0], [-1.0, -2.0, 0.0, 0.0]])
    assert torch.equal(keep_largest(code, 2), kept)


def test_an_image_keeps_k_units_and_only_they_learn():
    model = make()
    code = model.encode(batch().image)
    assert torch.ne(code, 0).sum(1).tolist() == [4] * 12
    weight = model.encoder[1][0].weight
    (gradient,) = torch.autograd.grad(model.lost(code, batch().image).sum(), weight)
    assert torch.equal(gradient.ne(0).any(1), torch.ne(code, 0).any(0))


def test_the_units_that_are_kept_become_fewer_in_training_alone(tmp_path):
    model, kept = make(k_steps=4), []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, module, *_):
            kept.append(torch.ne(module.encode(batch().image), 0).sum(1).max().item())

    trainer = L.Trainer(
        accelerator="cpu", logger=False, max_epochs=6, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Watch()],
    )  # fmt: skip
    model.train()
    trainer.fit(model, torch.utils.data.DataLoader([batch()], batch_size=None))
    assert kept == [30, 24, 17, 10, 4, 4]
    assert torch.ne(model.eval().encode(batch().image), 0).sum(1).max() == 4


def test_the_divergence_is_that_of_torch():
    mean = torch.tensor([0.01, 0.05, 0.3, 0.9])
    expected = kl_divergence(Bernoulli(torch.full((4,), 0.05)), Bernoulli(mean))
    torch.testing.assert_close(bernoulli_kl(0.05, mean), expected)
    assert bernoulli_kl(0.05, torch.tensor([0.0, 1.0])).isfinite().all()


@pytest.mark.parametrize("sparsity", ["l1", "kl"])
def test_penalties_are_in_the_training_loss_alone(sparsity):
    there = batch()
    model, free = make(sparsity=sparsity, weight=0.7), make(sparsity=sparsity, weight=0.0)
    code = free.encode(there.image)
    added = (model.losses(there) - free.losses(there)).mean()
    if sparsity == "l1":
        assert (code >= 0).all()
        expected = code.sum(1).mean()
    else:
        assert ((code > 0) & (code < 1)).all()
        mean = Bernoulli(code.mean(0))
        expected = kl_divergence(Bernoulli(torch.full((30,), 0.05)), mean).sum()
    torch.testing.assert_close(added, 0.7 * expected)
    lost = F.mse_loss(free(there.image), there.image, reduction="sum")
    torch.testing.assert_close(free.losses(there).sum(), lost)


@pytest.mark.parametrize(("sparsity", "weight"), [("l1", 0.5), ("kl", 2.0)])
def test_a_penalty_makes_codes_sparse(sparsity, weight):
    def share(weight):
        model = make(sparsity=sparsity, weight=weight)
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(150):
            optimizer.zero_grad()
            model.losses(batch()).mean().backward()
            optimizer.step()
        return model.active(model.encode(batch().image)).float().mean().item()

    assert share(weight) < 0.5 * share(0.0)


def test_idle_units_are_active_for_no_input():
    metric = IdleUnits(4)
    metric.update(torch.tensor([[True, False, False, False], [True, True, False, False]]))
    metric.update(torch.tensor([[False, False, False, True]]))
    assert metric.compute() == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sparsity": "l2"}, "sparsity must be one of top_k, l1, kl, not 'l2'"),
        ({"k": 31}, "k must be at most code_size, 30, not 31"),
        ({"k": 0}, "k must be at least 1"),
        ({"weight": -1.0}, "weight must be at least 0"),
        ({"target": 1.0}, "target must lie between 0 and 1"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words):
    with pytest.raises(OptionError, match=words):
        make(**options)
