"""Honest means over the optimizer step, and what is logged of them."""

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import optim
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import NonFiniteLossError


def assert_same_weights(one, other, tolerance=1e-5):
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance, msg=name)


# ---- the divisor is that of the whole optimizer step


def test_accumulated_batches_weigh_by_their_tokens(make_model, make_trainer, batches, union):
    parts, whole = make_model(), make_model()
    make_trainer(accumulate_grad_batches=3).fit(parts, batches[:3])
    make_trainer().fit(whole, union(batches[:3]))
    assert parts.trainer.global_step == whole.trainer.global_step == 1
    assert_same_weights(parts, whole)
    means = make_model()  # a mean of the batches' means is something else
    total = sum(_loss(means, batch) for batch in batches[:3]) / 3
    total.backward()
    differ = [
        (parameter - 0.5 * parameter.grad - other).abs().max()
        for parameter, other in zip(means.parameters(), whole.parameters(), strict=True)
    ]
    assert max(differ) > 1e-3


def _loss(model, batch):
    real = batch.target[:, 1:] != 0
    logits = model(batch.source, batch.target[:, :-1]).logits
    return F.cross_entropy(logits[real], batch.target[:, 1:][real])


def test_the_last_incomplete_window_has_its_own_divisor(make_model, make_trainer, batches, union):
    parts, whole = make_model(), make_model()
    make_trainer(accumulate_grad_batches=3).fit(parts, batches)
    make_trainer().fit(whole, union(batches[:3], batches[3:]))
    assert parts.trainer.global_step == whole.trainer.global_step == 2
    assert_same_weights(parts, whole)


def test_clipping_and_norms_see_the_gradient_of_the_mean(
    make_model, make_trainer, batches, union, tmp_path
):
    def fit(name, batches, **options):
        model = make_model()
        logger = TensorBoardLogger(tmp_path / name)
        trainer = make_trainer(
            gradient_clip_val=0.05, logger=logger, log_every_n_steps=1, **options
        )
        trainer.fit(model, batches)
        events = EventAccumulator(logger.log_dir).Reload()
        return model, events.Scalars("gradients/total")[0].value

    parts, norm = fit("parts", batches[:3], accumulate_grad_batches=3)
    whole, expected = fit("whole", union(batches[:3]))
    assert norm == pytest.approx(expected, rel=1e-4)
    assert expected > 0.05
    assert_same_weights(parts, whole, 1e-6)


def test_a_label_smoothing_loss_is_averaged_over_the_step_too(
    make_model, make_trainer, batches, union
):
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.2)
    parts, whole = make_model(loss=loss), make_model(loss=loss)
    make_trainer(accumulate_grad_batches=2).fit(parts, batches[:2])
    make_trainer().fit(whole, union(batches[:2]))
    assert_same_weights(parts, whole)


def test_the_logged_loss_is_the_mean_since_the_last_time(
    make_model, make_trainer, batches, union, tmp_path
):
    logger = TensorBoardLogger(tmp_path)
    frozen = make_model(optimizer=lambda parameters: optim.SGD(parameters, lr=0.0))
    make_trainer(logger=logger, log_every_n_steps=2).fit(frozen, batches)
    logged = EventAccumulator(logger.log_dir).Reload().Scalars("train/loss")
    assert [event.step for event in logged] == [2, 4]
    for event, part in zip(logged, (batches[:2], batches[2:]), strict=True):
        assert event.value == pytest.approx(_loss(frozen, union(part)[0]).item(), rel=1e-5)


def test_nothing_is_logged_before_the_first_step(make_model, make_trainer, batches, tmp_path):
    logger = TensorBoardLogger(tmp_path)
    trainer = make_trainer(logger=logger, log_every_n_steps=1, accumulate_grad_batches=4)
    trainer.fit(make_model(), batches)
    logged = EventAccumulator(logger.log_dir).Reload().Scalars("train/loss")
    assert [event.step for event in logged] == [1]


# ---- a loss that is not finite


def test_a_loss_that_is_not_finite_names_step_and_batch(make_model, make_trainer, batches):
    calls = []

    def loss(logits, targets):
        if logits.requires_grad:  # of a training step, not of the trial before
            calls.append(1)
        scale = float("nan") if len(calls) == 3 else 1.0
        return F.cross_entropy(logits, targets) * scale

    with pytest.raises(NonFiniteLossError, match=r"not finite at step 2 \(epoch 0, batch 2\)"):
        make_trainer().fit(make_model(loss=loss), batches)
