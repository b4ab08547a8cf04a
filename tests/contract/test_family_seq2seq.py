"""What every model of the family seq2seq must do: learn to copy and to reverse a string."""

import pytest
import torch
from torch import optim

from dlarch import create_data, list_models
from dlarch.data import pairs
from dlarch.data.generators import sequences

FAMILY = list_models(family="seq2seq")

LEARNING: dict[str, dict] = {}
"""Sizes for models that do not learn this with their defaults; by name."""


@pytest.fixture
def short_strings(monkeypatch):
    """Strings of one to eight of ten letters."""

    def shortened(make):
        def pairs_of(**options):
            return make("abcdefghij", max_length=8, validation=200, test=500, **options)

        return pairs_of

    for name in ("copy", "reverse"):
        make = shortened(getattr(sequences, f"{name}_pairs"))
        monkeypatch.setitem(pairs.GENERATORS, name, make)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["copy", "reverse"])
@pytest.mark.parametrize("subject", FAMILY, indirect=True)
def test_strings_are_learnt(subject, source, trainer, short_strings):
    data = create_data("translation", source=source, train_size=8000, batch_size=64)
    torch.manual_seed(1)

    def schedule(optimizer):
        return optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=700)

    options = {
        "optimizer": lambda parameters: optim.Adam(parameters, lr=8e-3),
        "scheduler": schedule,
        "pictures": False,
    }
    model = subject.cls(**options | LEARNING.get(subject.name, {}))
    fit = trainer(max_steps=700, max_epochs=-1, gradient_clip_val=1.0, limit_val_batches=0)
    fit.fit(model, datamodule=data)
    scores = trainer().test(model, datamodule=data, verbose=False)[0]
    assert scores["test/exact_match"] >= 0.98


@pytest.mark.parametrize("subject", FAMILY, indirect=True)
def test_one_token_at_a_time_equals_the_whole_target(subject):
    batch = subject.example()[1]
    model = subject.make().eval()
    with torch.no_grad():
        memory = model.encode(batch.source)
        whole = model.decode(batch.target, memory)
        logits = model.project(whole.features)
        state = model.first_state(memory)
        for step in range(batch.target.shape[1]):
            output = model.step(batch.target[:, step, None], state, memory)
            state = output.state
            torch.testing.assert_close(output.logits[:, 0], logits[:, step], atol=1e-5, rtol=1e-5)
            if whole.attention is not None:
                looks = whole.attention[..., step, :]
                torch.testing.assert_close(output.attention[:, 0], looks, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("subject", FAMILY, indirect=True)
def test_a_future_token_does_not_change_earlier_logits(subject):
    batch = subject.example()[1]
    model = subject.make().eval()
    vocabulary = subject.example()[0].target_vocab_size
    for position in range(1, batch.target.shape[1]):
        changed = batch.target.clone()
        changed[:, position] = (changed[:, position] + 1) % vocabulary
        before = subject.outputs(model, batch)[0]
        after = subject.outputs(model, batch._replace(target=changed))[0]
        torch.testing.assert_close(before[:, :position], after[:, :position])
        assert not torch.isclose(before[:, position], after[:, position]).all()


@pytest.mark.parametrize("subject", FAMILY, indirect=True)
def test_attention_is_a_distribution_over_real_tokens(subject):
    batch = subject.example()[1]
    attention = subject.make().eval()(batch.source, batch.target).attention
    if attention is None:
        pytest.skip("this model attends to nothing")
    torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
    hidden = (batch.source == 0)[:, None].expand_as(attention)
    assert hidden.any()
    assert attention[hidden].eq(0).all()
