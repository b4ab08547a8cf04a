"""What every task does: honest means over the optimizer step, schedulers, clear refusals."""

import logging

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import optim
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from dlarch.callbacks.gradients import GradientNorms
from dlarch.errors import MismatchError, NonFiniteLossError


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


# ---- schedulers


def test_schedulers_step_with_the_optimizer(make_model, make_trainer, batches):
    rates = []

    class Watch(GradientNorms):  # called before each optimizer step
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            rates.append(optimizer.param_groups[0]["lr"])

    model = make_model(scheduler=lambda optimizer: LambdaLR(optimizer, lambda step: 0.5**step))
    trainer = make_trainer(max_epochs=2, accumulate_grad_batches=2, callbacks=[Watch()])
    trainer.fit(model, batches)
    assert rates == [0.5, 0.25, 0.125, 0.0625]


def test_reduce_on_plateau_steps_at_each_validation(make_model, make_trainer, batches):
    """Twice an epoch here, on the monitored metric, and not in the sanity check."""
    seen = []

    class Plateau(ReduceLROnPlateau):
        def step(self, metrics, epoch=None):
            seen.append(float(metrics))
            super().step(metrics)

    validated = []

    class Watch(GradientNorms):
        def on_validation_end(self, trainer, pl_module):
            validated.append((trainer.sanity_checking, trainer.callback_metrics["val/loss"]))

    frozen = make_model(
        optimizer=lambda parameters: optim.SGD(parameters, lr=0.0),
        scheduler=lambda optimizer: Plateau(optimizer, patience=0),
    )
    trainer = make_trainer(
        max_epochs=2, val_check_interval=2, num_sanity_val_steps=1, callbacks=[Watch()]
    )
    trainer.fit(frozen, batches, batches[:2])
    assert [sanity for sanity, _ in validated] == [True] + 4 * [False]
    assert seen == [float(value) for sanity, value in validated if not sanity]


def test_reduce_on_plateau_lowers_the_rate_and_resumes(
    make_model, make_trainer, make_data, tmp_path
):
    def model():
        return make_model(
            facts=False,
            optimizer=lambda parameters: optim.SGD(parameters, lr=0.0),
            scheduler=lambda optimizer: ReduceLROnPlateau(optimizer, patience=1, factor=0.5),
        )

    options = {"limit_train_batches": 1, "limit_val_batches": 1, "check_val_every_n_epoch": 2}
    trainer = make_trainer(max_epochs=8, **options)
    trainer.fit(model(), datamodule=make_data())
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    assert (scheduler.last_epoch, scheduler.num_bad_epochs) == (4, 1)
    half = make_trainer(max_epochs=4, **options)
    half.fit(model(), datamodule=make_data())
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed = make_trainer(max_epochs=8, **options)
    resumed.fit(
        model(), datamodule=make_data(), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    assert resumed.lr_scheduler_configs[0].scheduler.state_dict() == scheduler.state_dict()


# ---- evaluation


def test_validation_loss_does_not_depend_on_the_batch_size(make_model, make_trainer, make_data):
    scores = []
    for size in (64, 7):
        model, data = make_model(facts=False), make_data(batch_size=size)
        trainer = make_trainer()
        scores.append(trainer.validate(model, datamodule=data, verbose=False)[0])
    assert scores[0].keys() == scores[1].keys()
    for name, value in scores[0].items():
        assert value == pytest.approx(scores[1][name], rel=1e-5), name
    assert scores[0]["val/perplexity"] == pytest.approx(
        torch.tensor(scores[0]["val/loss"]).exp().item(), rel=1e-5
    )


# ---- any DataLoader, facts by hand


def test_a_plain_loader_and_a_bare_trainer_are_enough(make_model, make_trainer, union, batches):
    whole = union(batches)[0]
    pairs = torch.utils.data.TensorDataset(whole.source, whole.target)
    loader = torch.utils.data.DataLoader(pairs, batch_size=4)
    model = make_model()
    trainer = make_trainer(max_epochs=2)
    before = _loss(model, whole).item()
    trainer.fit(model, loader, loader)
    assert _loss(model, whole).item() < before
    scores = trainer.validate(model, loader, verbose=False)[0]
    assert scores["val/loss"] == pytest.approx(_loss(model, whole).item(), rel=1e-5)


def test_facts_that_contradict_the_data_are_refused(make_model, make_trainer, make_data):
    with pytest.raises(MismatchError, match=r"source_vocab_size=11, the data have .*=30"):
        make_trainer().fit(make_model(), datamodule=make_data())


def test_a_model_without_facts_asks_for_them(make_model, make_trainer, batches):
    with pytest.raises(MismatchError, match="Seq2SeqAttn must know source_vocab_size"):
        make_trainer().fit(make_model(facts=False), batches)


def test_facts_of_the_data_become_hparams(make_model, make_trainer, make_data):
    model, data = make_model(facts=False), make_data()
    make_trainer(limit_train_batches=1, limit_val_batches=0).fit(model, datamodule=data)
    assert model.hparams["source_vocab_size"] == data.spec.source_vocab_size == 30
    assert model.processor is data.processor


def test_another_class_of_optimizer_is_refused_on_resume(
    make_model, make_trainer, make_data, tmp_path
):
    options = {"limit_train_batches": 1, "limit_val_batches": 0}
    trainer = make_trainer(**options)
    trainer.fit(make_model(facts=False), datamodule=make_data())
    trainer.save_checkpoint(tmp_path / "sgd.ckpt")
    adam = make_model(facts=False, optimizer=optim.Adam)
    with pytest.raises(MismatchError, match="Adam here and SGD in the checkpoint"):
        make_trainer(**options, max_steps=9).fit(
            adam, datamodule=make_data(), ckpt_path=tmp_path / "sgd.ckpt", weights_only=True
        )


def test_other_training_data_are_refused_on_resume(make_model, make_trainer, make_data, tmp_path):
    options = {"limit_train_batches": 1, "limit_val_batches": 0}
    trainer = make_trainer(**options)
    trainer.fit(make_model(facts=False), datamodule=make_data())
    trainer.save_checkpoint(tmp_path / "copy.ckpt")
    with pytest.raises(MismatchError, match="trained on other data"):
        make_trainer(**options, max_steps=9).fit(
            make_model(facts=False),
            datamodule=make_data(generator_seed=1),
            ckpt_path=tmp_path / "copy.ckpt",
            weights_only=True,
        )


def test_a_callback_given_by_hand_takes_the_place_of_the_tasks(make_model, make_trainer, batches):
    mine = GradientNorms()
    trainer = make_trainer(callbacks=[mine])
    trainer.fit(make_model(), batches[:1])
    assert [c for c in trainer.callbacks if isinstance(c, GradientNorms)] == [mine]


def test_pictures_can_be_left_out(make_model, make_trainer, batches):
    kinds = []
    for pictures in (True, False):
        trainer = make_trainer()
        trainer.fit(make_model(pictures=pictures), batches[:1])
        kinds.append({type(callback).__name__ for callback in trainer.callbacks})
    assert kinds[0] - kinds[1] == {"AttentionMaps", "TranslationTable"}


def test_without_a_logger_nothing_complains(make_model, make_trainer, batches, caplog):
    with caplog.at_level(logging.WARNING, logger="dlarch"):
        make_trainer(log_every_n_steps=1).fit(make_model(), batches, batches)
    assert not caplog.records


def test_batches_need_not_be_of_the_named_type(make_model, make_trainer, batches):
    plain = [list(batch[:2]) for batch in batches]
    one, other = make_model(), make_model()
    make_trainer().fit(one, torch.utils.data.DataLoader(plain, batch_size=None))
    make_trainer().fit(other, batches)
    assert_same_weights(one, other, 0.0)
