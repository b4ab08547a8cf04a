"""What every task does: schedulers, honest means over an epoch, clear refusals."""

import logging

import pytest
import torch
from torch import optim
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from dlarch.callbacks.gradients import GradientNorms
from dlarch.errors import MismatchError


def _loss(model, batch):
    real = batch.target[:, 1:] != 0
    logits = model(batch.source, batch.target[:, :-1]).logits
    return F.cross_entropy(logits[real], batch.target[:, 1:][real])


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
    assert kinds[0] - kinds[1] == {"AttentionMaps", "TokenProjector", "TranslationTable"}


def test_without_a_logger_nothing_complains(make_model, make_trainer, batches, caplog):
    with caplog.at_level(logging.WARNING, logger="dlarch"):
        make_trainer(log_every_n_steps=1).fit(make_model(), batches, batches)
    assert not caplog.records


def test_batches_need_not_be_of_the_named_type(make_model, make_trainer, batches):
    plain = [list(batch[:2]) for batch in batches]
    one, other = make_model(), make_model()
    make_trainer().fit(one, torch.utils.data.DataLoader(plain, batch_size=None))
    make_trainer().fit(other, batches)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
