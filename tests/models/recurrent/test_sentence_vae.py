"""The bound, its draws and its likelihood; the code that is drawn to write."""

import math

import lightning as L  # noqa: N812
import pytest
import torch
from torch import optim
from torch.distributions import Normal, kl_divergence

from dlarch import create_model
from dlarch.batches import TextBatch
from dlarch.errors import OptionError
from dlarch.nn import importance_nll
from dlarch.processing import LabelledTextProcessor, TextProcessor
from dlarch.processing.translation import pad
from dlarch.spec import BOS, EOS, PAD, UNK


def make(**options):
    torch.manual_seed(0)
    sizes = {"vocab_size": 9, "embedding_size": 5, "hidden_size": 8, "code_size": 3}
    model = create_model("sentence_vae", **sizes | options).eval()
    letters = TextProcessor.from_tokens("abcde", "characters")
    model.processor = LabelledTextProcessor(letters, longest=8)
    return model


def rows():
    return pad([[BOS, 5, 6, 7, EOS], [BOS, 8, EOS], [BOS, 4, 4, 7, 4, 5, EOS], [BOS, 6, 6, EOS]])


def fit(model, tmp_path, steps, **options):
    trainer = L.Trainer(
        accelerator="cpu", devices=1, logger=False, max_epochs=steps, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path, **options,
    )  # fmt: skip
    batch = TextBatch(rows(), example=torch.arange(4))
    trainer.fit(model, torch.utils.data.DataLoader([batch], batch_size=None))
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    return trainer.test(model, loader, verbose=False)[0]


@torch.no_grad()
def test_the_bound_is_reconstruction_and_divergence():
    model = make()
    tokens, noise = rows(), torch.randn(4, 3)
    reconstruction, kl, _ = model.bound(tokens, noise)
    mean, log_variance = model.posterior(tokens)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    torch.testing.assert_close(kl, kl_divergence(posterior, Normal(0.0, 1.0)))
    code = mean + posterior.scale * noise
    torch.testing.assert_close(reconstruction, model.nats(tokens, code))


def test_the_gradient_goes_through_the_draw():
    model = make()
    model.bound(rows(), torch.ones(4, 3)).reconstruction.sum().backward()
    assert model.mean.weight.grad.ne(0).any()
    assert model.log_variance.weight.grad.ne(0).any()


class Recorder:
    """Calls a function, and keeps the numbers that it gives."""

    def __init__(self, function, found):
        self.function, self.found = function, found

    def __call__(self, *arguments):
        loss = self.function(*arguments)
        self.found.append(loss.item())
        return loss


def test_free_nats_and_weight_are_in_the_training_loss(tmp_path, monkeypatch):
    found = {}
    noise = torch.Generator().manual_seed(3)
    draws = torch.randn(4, 3, generator=noise)
    for free, schedule in ((0.0, "none"), (10.0, "none"), (10.0, "linear")):
        model = make(free_nats=free, annealing=schedule, annealing_steps=4, word_dropout=0.0)
        monkeypatch.setattr(torch, "randn", lambda *shape, **_: draws)
        losses = []
        monkeypatch.setattr(model, "mean_loss", Recorder(model.mean_loss, losses))
        model.make_optimizer = lambda parameters: optim.SGD(parameters, lr=0.0)
        fit(model, tmp_path, 3)
        found[free, schedule] = losses
        with torch.no_grad():
            reconstruction, kl, _ = model.bound(rows(), draws)
        term = kl.sum(1).mean() if not free else torch.tensor(30.0)  # three dimensions
        weights = [0.0, 0.25, 0.5] if schedule == "linear" else [1.0] * 3
        expected = [float(reconstruction.mean() + weight * term) for weight in weights]
        assert found[free, schedule] == pytest.approx(expected, rel=1e-5)


def test_words_are_dropped_in_training_alone():
    model = make(word_dropout=0.5)
    tokens = pad([[BOS, *[5] * 200, EOS], [BOS, *[6] * 100, EOS]])
    assert torch.equal(model._without_some_words(tokens), tokens)
    fed = model.train()._without_some_words(tokens)
    changed = fed != tokens
    assert set(fed[changed].tolist()) == {UNK}
    assert not changed[:, 0].any()
    assert torch.equal(fed == PAD, tokens == PAD)
    assert changed.sum() / (tokens != PAD).sum() == pytest.approx(0.5, abs=0.1)
    assert torch.equal(model.nats(tokens, model.encode(tokens)),
                       model.eval().nats(tokens, model.encode(tokens)))  # fmt: skip


@torch.no_grad()
def test_likelihood_is_the_integral_over_codes():
    """One dimension: the sum over a fine grid is the integral."""
    model = make(code_size=1)
    model.decoder.first.weight.mul_(6)  # so that the code matters
    tokens = rows()
    grid = torch.linspace(-7, 7, 1401)
    nats = torch.stack([model.nats(tokens, z.expand(4, 1)) for z in grid], dim=1)
    logs = Normal(0.0, 1.0).log_prob(grid) - nats
    exact = -(logs.logsumexp(1) + math.log(float(grid[1] - grid[0])))
    noise = torch.randn(4, 3000, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        model.importance_nll(tokens, model.posterior(tokens), noise), exact, atol=0.01, rtol=0
    )
    assert (
        model.importance_nll(tokens, model.posterior(tokens), noise[:, :1]) - exact
    ).abs().max() > 0.01


@torch.no_grad()
def test_likelihood_does_not_depend_on_how_codes_are_grouped(monkeypatch):
    model = make()
    tokens, noise = rows(), torch.randn(4, 10, 3)
    whole = model.importance_nll(tokens, model.posterior(tokens), noise)
    monkeypatch.setattr("dlarch.tasks.latent_text.TOKENS_AT_ONCE", 3 * tokens.numel())
    torch.testing.assert_close(model.importance_nll(tokens, model.posterior(tokens), noise), whole)
    mean, log_variance = model.posterior(tokens)
    codes = mean[:, None] + (0.5 * log_variance[:, None]).exp() * noise
    each = torch.stack([-model.nats(tokens, codes[:, k]) for k in range(10)], dim=1)
    torch.testing.assert_close(whole, importance_nll(each, codes, mean, log_variance))


def test_it_learns_four_texts_down_to_what_it_costs_to_name_one(tmp_path):
    """Four equally frequent texts cost log 4 nats each; the bound is a little above."""
    model = make(hidden_size=32, word_dropout=0.0, annealing="none", free_nats=0.0)
    model.make_optimizer = lambda parameters: optim.Adam(parameters, lr=1e-2)
    found = fit(model, tmp_path, 300)
    assert math.log(4) - 0.05 < found["test/nll_is100"] < math.log(4) + 0.2
    assert found["test/loss"] == pytest.approx(math.log(4), abs=0.5)  # of one draw for each text
    assert found["test/loss"] == pytest.approx(found["test/reconstruction"] + found["test/kl"])
    words = float((rows()[:, 1:] != PAD).sum())
    assert found["test/perplexity_bound"] == pytest.approx(math.exp(4 * found["test/loss"] / words))


def test_draws_of_validation_belong_to_the_texts():
    model = make()
    tokens = rows()
    state = torch.get_rng_state()
    whole = model._noise(TextBatch(tokens, example=torch.tensor([7, 3, 0, 9])), 5)
    part = model._noise(TextBatch(tokens[:2], example=torch.tensor([0, 7])), 5)
    assert torch.equal(part[0], whole[2])
    assert torch.equal(part[1], whole[0])
    assert torch.equal(torch.get_rng_state(), state)
    many = model._noise(TextBatch(tokens, example=torch.arange(4)), 4000)
    assert many.std().item() == pytest.approx(1, abs=0.02)


def test_new_texts_come_from_drawn_codes():
    model = make()
    with torch.no_grad():
        model.decoder.first.weight.mul_(30)
    texts = model.generate(20, temperature=0, seed=1)
    assert len(set(texts)) > 3  # the likeliest text of each code: only codes differ
    assert texts == model.generate(20, temperature=0, seed=1)
    assert texts != model.generate(20, temperature=0, seed=2)
    assert "".join(model.stream(seed=4)) == model.generate(1, seed=4)[0]


@pytest.mark.parametrize(
    "options", [{"word_dropout": 1.5}, {"free_nats": -1.0}, {"annealing": "fast"}]
)
def test_mistakes_are_named(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        make(**options)
