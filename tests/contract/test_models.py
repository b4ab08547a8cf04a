"""What every registered model must do, whatever it is."""

import math

import lightning as L  # noqa: N812
import pytest
import torch
from torch import optim

import dlarch
from dlarch import AutoModel, list_data, list_models
from dlarch.errors import MismatchError
from dlarch.spec import FACT_NAMES

pytestmark = pytest.mark.parametrize("subject", list_models(), indirect=True)


def test_builds_the_same_from_facts_and_from_data(subject, trainer):
    data = subject.data()
    built = subject.cls(**subject.small)
    assert not list(built.parameters())  # nothing but `build` makes layers
    trainer(max_steps=0).fit(built, datamodule=data)
    facts = {name: value for name, value in data.spec.facts().items() if name in built.hparams}
    by_hand = subject.cls(**subject.small, **facts)
    by_name = dlarch.create_model(subject.name, data, **subject.small)
    shapes = _shapes(built)
    assert shapes == _shapes(by_hand) == _shapes(by_name)
    assert shapes
    assert set(facts) <= set(FACT_NAMES)
    assert {name: built.hparams[name] for name in facts} == facts
    assert by_name.processor is data.processor


def _shapes(model):
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def test_wrong_facts_are_refused(subject, trainer):
    data = subject.data()
    facts = subject.example()[0].facts()
    known = subject.cls(**subject.small).hparams
    other = {name: value for name, value in facts.items() if name in known}
    with pytest.raises(MismatchError, match="|".join(other)):
        trainer(max_steps=1).fit(subject.cls(**subject.small, **other), datamodule=data)


def test_every_parameter_gets_a_gradient(subject, trainer, helpers):
    """Or, without gradients, is computed."""
    subject.exempt("gradient")
    if not subject.by_gradients:
        model = subject.make()
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        trainer().fit(model, helpers.Loader([subject.example()[1]]))
        assert before
        assert [name for name, p in model.named_parameters() if torch.equal(p, before[name])] == []
        return
    model = subject.make(optimizer=lambda parameters: optim.SGD(parameters, lr=0.0))
    found = {}

    class Watch(L.Callback):
        def on_after_backward(self, trainer, module):
            for name, parameter in module.named_parameters():
                found[name] = parameter.grad is not None and bool(parameter.grad.ne(0).any())

    trainer(callbacks=[Watch()]).fit(model, helpers.Loader([subject.example()[1]]))
    assert found
    assert [name for name, has in found.items() if not has] == []


def test_overfits_a_handful(subject, trainer, helpers):
    subject.exempt("overfit")
    batch = subject.example(4, seed=2)[1]
    model = subject.make()
    rate = helpers.RATES.get(subject.name, 5e-3)
    model.make_optimizer = lambda parameters: optim.Adam(parameters, lr=rate)
    loader = helpers.Loader([batch])
    before = trainer().validate(model, loader, verbose=False)[0]
    trainer(max_epochs=150 if subject.by_gradients else 1).fit(model, loader)
    after = trainer().validate(model, loader, verbose=False)[0]
    if before["val/loss"] == 0:  # weights that start at 0 may have nothing to lose
        assert before["val/accuracy"] < after["val/accuracy"] == 1
    least = helpers.unavoidable(model, batch)
    assert after["val/loss"] <= least + 0.05 * (before["val/loss"] - least)


def test_trains_in_bf16_with_clipped_gradients(subject, trainer):
    options = {"precision": "bf16-mixed"}
    if subject.by_gradients:
        options["gradient_clip_val"] = 0.01
    data, model = subject.data(), subject.cls(**subject.small)
    fit = trainer(max_steps=2, limit_val_batches=2, limit_test_batches=2, **options)
    fit.fit(model, datamodule=data)
    assert fit.global_step == 2
    assert {value.dtype for value in model.parameters()} <= {torch.float32}
    scores = fit.test(model, datamodule=data, verbose=False)[0]
    assert all(math.isfinite(score) for score in scores.values())


def test_an_example_alone_is_what_it_is_in_a_batch(subject, helpers):
    subject.exempt("alone")
    batch = subject.example()[1]
    model = subject.make().eval()
    together = subject.outputs(model, batch)
    for row in range(len(batch[0])):
        alone = subject.outputs(model, helpers.take(batch, [row]))
        assert len(alone) == len(together) > 0
        for one, all_rows in zip(alone, together, strict=True):
            here = all_rows[row][tuple(slice(size) for size in one.shape[1:])]
            torch.testing.assert_close(one[0], here, atol=1e-5, rtol=1e-5)


def test_more_padding_changes_nothing(subject, helpers):
    batch = subject.example()[1]
    model = subject.make().eval()
    plain, padded = subject.outputs(model, batch), subject.outputs(model, helpers.widen(batch))
    for one, wide in zip(plain, padded, strict=True):
        here = wide[tuple(slice(size) for size in one.shape)]
        torch.testing.assert_close(one, here, atol=1e-5, rtol=1e-5)


def test_every_metric_is_that_of_the_examples_however_they_are_batched(subject, trainer, helpers):
    """Loss and decoding alike: alone, together, and with more padding."""
    subject.exempt("batching")
    batch = subject.example(8)[1]
    model = subject.make()
    # Some training, so that what is decoded differs from example to example.
    if subject.by_gradients:
        model.make_optimizer = lambda parameters: optim.Adam(parameters, lr=5e-3)
    trainer(max_epochs=30).fit(model, helpers.Loader([helpers.take(batch, [0, 1, 2, 3])]))
    alone = [helpers.take(batch, [row]) for row in range(8)]
    ways = [[batch], alone, [helpers.widen(batch)], [helpers.take(batch, [7, 0, 3, 4]),
            helpers.take(batch, [1, 2, 5, 6])]]  # fmt: skip
    scores = [trainer().validate(model, helpers.Loader(way), verbose=False)[0] for way in ways]
    assert set(subject.losses) & set(scores[0])
    for other in scores[1:]:
        assert other == pytest.approx(scores[0], rel=1e-5, abs=1e-6)


def test_decoding_is_the_same_alone_and_in_a_batch(subject, helpers):
    if not hasattr(subject.cls, "search"):
        pytest.skip("this task decodes nothing")
    batch = helpers.take(subject.example(8)[1], list(range(8)))
    model = subject.make().eval()
    for options in ({}, {"beam": 3, "n_best": 2, "length_penalty": 0.6}):
        together = model.search(batch.source, max_length=7, return_attention=True, **options)
        wide = model.search(helpers.widen(batch).source, max_length=7, **options)
        assert torch.equal(together.tokens, wide.tokens)
        torch.testing.assert_close(together.scores, wide.scores, atol=1e-5, rtol=1e-5)
        for row in range(8):
            source = helpers.take(batch, [row]).source
            alone = model.search(source, max_length=7, return_attention=True, **options)
            length = alone.tokens.shape[-1]
            assert torch.equal(alone.tokens[0], together.tokens[row, :, :length])
            torch.testing.assert_close(alone.scores[0], together.scores[row])
            if alone.attention is not None:
                looks = together.attention[row, :, :length]
                torch.testing.assert_close(alone.attention[0], looks[..., : source.shape[1]])
                assert looks[..., source.shape[1] :].eq(0).all()


def test_a_saved_model_comes_back_as_it_was(subject, tmp_path):
    data = subject.data()
    torch.manual_seed(1)
    model = dlarch.create_model(subject.name, data, **subject.small).eval()
    model.save_pretrained(tmp_path / "saved")
    loaded = AutoModel.from_pretrained(tmp_path / "saved")
    assert type(loaded) is subject.cls
    assert dict(loaded.hparams) == dict(model.hparams)
    for (name, one), other in zip(
        model.state_dict().items(), loaded.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert loaded.processor.to_dict() == model.processor.to_dict()
    batch = next(iter(data.val_dataloader()))
    for one, other in zip(
        subject.outputs(model, batch), subject.outputs(loaded, batch), strict=True
    ):
        assert torch.equal(one, other)


def test_a_resumed_run_ends_with_the_same_weights(subject, tmp_path):
    options = {
        "test_after_fit": False,
        "enable_progress_bar": False,
        "logger": False,
        "accelerator": "cpu",
        "devices": 1,
        "limit_val_batches": 1,
    }

    def fit(name, steps, **more):
        torch.manual_seed(3)
        model = subject.cls(**subject.small)
        run = dlarch.fit(model, subject.data(), name=name, max_steps=steps, **options, **more).run
        return model, run

    whole, _ = fit("whole", 5)
    _, half = fit("half", 2)
    resumed, again = fit("half", 5, ckpt_path=half.folder)
    assert again.folder == half.folder
    for (name, one), other in zip(
        whole.state_dict().items(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    from_run = AutoModel.from_pretrained(half.last)
    for (name, one), other in zip(
        whole.state_dict().items(), from_run.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_some_data_fit_the_model(subject):
    assert subject.data_name() in list_data()
