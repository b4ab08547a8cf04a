"""Two networks in turn: steps, clipping, means, averages, resuming, and what is scored."""

import copy
import csv
import functools
import math
from pathlib import Path

import lightning as L  # noqa: N812
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import optim
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import LambdaLR

import dlarch
from dlarch import AutoModel
from dlarch.batches import TableBatch
from dlarch.compat.checkpoint_io import load_checkpoint
from dlarch.errors import DataError, MismatchError, NonFiniteLossError, OptionError
from dlarch.models.gans.cgan import CGAN
from dlarch.models.gans.gan import GAN
from dlarch.models.gans.wgan_gp import WGANGP
from dlarch.optim import WarmupCosine

SIZES = {"noise_size": 3, "generator_sizes": (8,), "critic_sizes": (8,)}


def sgd(rate):
    return functools.partial(optim.SGD, lr=rate)


@pytest.fixture
def make():
    def model(kind=GAN, rate=0.1, critic_rate=0.1, **options):
        torch.manual_seed(0)
        defaults = {"optimizer": sgd(rate), "critic_optimizer": sgd(critic_rate)}
        facts = {} if options.pop("no_facts", False) else {"in_features": 2}
        return kind(**facts | SIZES | defaults | options)

    return model


class Loader(torch.utils.data.IterableDataset):
    def __init__(self, count, size=6):
        generator = torch.Generator().manual_seed(9)
        rows = torch.randn((count, size, 2), generator=generator)
        labels = torch.arange(size) % 3
        self.batches = [TableBatch(part, labels, torch.arange(size)) for part in rows]

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


# ---- steps


@pytest.mark.parametrize("critic_steps", [1, 3])
def test_the_generator_learns_after_so_many_steps_of_the_critic(make, make_trainer, critic_steps):
    model, turns = make(critic_steps=critic_steps), []
    take_step = model.take_step
    model.take_step = lambda place, *rest: (turns.append(place), take_step(place, *rest))
    trainer = make_trainer()
    trainer.fit(model, Loader(6))
    assert turns == ([1] * critic_steps + [0]) * (6 // critic_steps)
    assert trainer.global_step == len(turns)


def test_a_turn_is_the_textbooks(make, make_trainer):
    """Critic on real and made points, whose gradient stops, then the generator on fresh ones."""
    model, batches = make(), Loader(3)
    generator, critic = copy.deepcopy(model.generator), copy.deepcopy(model.critic)
    torch.manual_seed(5)
    make_trainer().fit(model, batches)
    torch.manual_seed(5)
    steps = [sgd(0.1)(net.parameters()) for net in (generator, critic)]
    for batch in batches:
        made = generator(torch.randn(1, 6, 3)[0]).detach()
        ones, zeros = torch.ones(6, 1), torch.zeros(6, 1)
        loss = F.binary_cross_entropy_with_logits(critic(batch.features), ones)
        loss = loss + F.binary_cross_entropy_with_logits(critic(made), zeros)
        steps[1].zero_grad()
        loss.backward()
        steps[1].step()
        made = generator(torch.randn(1, 6, 3)[0])
        steps[0].zero_grad()
        F.binary_cross_entropy_with_logits(critic(made), ones).backward()
        steps[0].step()
    torch.testing.assert_close(weights(model.generator), weights(generator))
    torch.testing.assert_close(weights(model.critic), weights(critic))


def test_lower_precision_reaches_the_generator_through_the_critic_of_now(make, make_trainer):
    """Weights that were converted before a step, or without a gradient, must not be used again."""

    def moved(precision, critic_rate):
        model = make(critic_rate=critic_rate)
        before = weights(model.generator)
        torch.manual_seed(5)
        make_trainer(precision=precision).fit(model, Loader(1))
        return weights(model.generator) - before

    exact, low, still = moved(32, 3.0), moved("bf16-mixed", 3.0), moved(32, 0.0)
    assert F.cosine_similarity(exact, low, dim=0) > 0.99
    assert F.cosine_similarity(exact, still, dim=0) < 0.9  # else nothing would be shown


def test_the_trainers_clipping_clips_each_network(make, make_trainer):
    model = make(rate=1.0, critic_rate=1.0)
    before = [weights(net) for net in (model.generator, model.critic)]
    trainer = make_trainer(gradient_clip_val=0.01)
    trainer.fit(model, Loader(1))
    for net, was in zip((model.generator, model.critic), before, strict=True):
        assert (weights(net) - was).norm().item() == pytest.approx(0.01, rel=1e-3)
    assert trainer.gradient_clip_val == 0.01
    by_value = make_trainer(gradient_clip_val=1e-3, gradient_clip_algorithm="value")
    by_value.fit(again := make(rate=1.0, critic_rate=1.0), Loader(1))
    assert (weights(again.generator) - before[0]).abs().max().item() == pytest.approx(
        1e-3, rel=1e-3
    )


def test_what_cannot_alternate_is_refused(make, make_trainer):
    with pytest.raises(OptionError, match=r"a larger --data\.batch_size"):
        make_trainer(accumulate_grad_batches=2).fit(make(), Loader(2))
    with pytest.raises(OptionError, match="LBFGS"):
        make_trainer().fit(make(optimizer=optim.LBFGS), Loader(2))
    for options, words in (
        ({"critic_steps": 0}, "critic_steps must be at least 1"),
        ({"packing": 0}, "packing must be at least 1"),
        ({"ema": 1.0}, "ema must be from 0 to below 1"),
    ):
        with pytest.raises(OptionError, match=words):
            make(**options)


def test_schedules_are_as_long_as_the_steps_of_their_network(make, make_trainer):
    def totals(**options):
        model = make(critic_steps=2, scheduler=functools.partial(WarmupCosine, warmup_steps=1))
        trainer = make_trainer(**options)
        trainer.fit(model, Loader(6))
        plans = [plan.scheduler for plan in trainer.lr_scheduler_configs]
        return [plan.total_steps for plan in plans], [plan.last_epoch for plan in plans]

    assert totals(max_epochs=2) == ([6, 12], [6, 12])
    assert totals(max_epochs=-1, max_steps=9) == ([3, 6], [3, 6])


# ---- what is logged


def test_means_since_the_last_time_are_logged(make, make_trainer, tmp_path):
    seen = []

    class Watched(WGANGP):
        def note_loss(self, name, loss, count):
            seen.append((name, loss.item()))
            super().note_loss(name, loss, count)

    logger = CSVLogger(tmp_path, name="", version="")
    trainer = make_trainer(logger=logger, log_every_n_steps=2)
    trainer.fit(make(Watched, critic_steps=2), Loader(4))  # 6 steps: 1, 3, 4, 6
    text = (tmp_path / "metrics.csv").read_text(encoding="utf-8").splitlines()
    rows = [
        {name: float(value) for name, value in row.items() if value}
        for row in csv.DictReader(text)
        if row["train/critic_loss"]
    ]
    assert [row["step"] for row in rows] == [3, 4, 6]

    def mean(name, first, last):
        values = [value for tag, value in seen if tag == name][first:last]
        return pytest.approx(sum(values) / len(values))

    assert [row["train/critic_loss"] for row in rows] == [
        mean("critic_loss", 0, 2), mean("critic_loss", 2, 3), mean("critic_loss", 3, 4)
    ]  # fmt: skip
    assert rows[0]["train/gradient_penalty"] == mean("gradient_penalty", 0, 2)
    assert rows[0]["train/generator_loss"] == mean("generator_loss", 0, 1)
    assert "train/generator_loss" not in rows[1]
    assert rows[0]["train/lr"] == rows[0]["train/lr_1"] == 0.1


# ---- the average of the generator's weights


def test_the_average_is_the_recursion_and_makes_the_examples(make, make_trainer):
    model, history = make(ema=0.6), []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            history.append(weights(module.generator))

    expected = weights(model.generator)
    make_trainer(callbacks=[Watch()]).fit(model, Loader(20))
    for step, now in enumerate(history, start=1):
        kept = min(0.6, step / (step + 9))
        expected = kept * expected + (1 - kept) * now
    torch.testing.assert_close(weights(model.average), expected)
    noise = torch.randn(4, 3)
    assert torch.equal(model(noise), model.average(noise))
    assert not torch.equal(model(noise), model.generator(noise))
    assert make().average is None


# ---- packing


def test_packs_hold_different_examples_of_one_kind(make):
    model = make(packing=3)
    examples = torch.arange(5.0)[:, None].expand(5, 2)
    packed = model.packed(examples)
    assert packed[:, ::2].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 0], [4, 0, 1]]
    assert model.rate(examples, torch.zeros(5)).shape == (5,)
    images = GAN(image_shape=(1, 4, 5), packing=2, **SIZES).packed(torch.zeros(3, 1, 4, 5))
    assert images.shape == (3, 2, 4, 5)


# ---- interrupted and resumed

RING = {"shape": "ring", "size": 400, "batch_size": 32, "generator_seed": 2}
QUIET = {
    "test_after_fit": False,
    "enable_progress_bar": False,
    "logger": False,
    "accelerator": "cpu",
    "devices": 1,
}


@pytest.fixture
def _own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DLARCH_RUN_FOLDER", "")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_own_runs")
@pytest.mark.parametrize("first", [1, 2, 6, 17])
def test_a_run_that_was_cut_within_a_turn_ends_as_if_it_had_not_been(make, first):
    """With momenta, schedules and the average; 10 batches, 13 steps are an epoch."""

    def fit(steps, **more):
        model = make(
            critic_steps=3,
            ema=0.9,
            no_facts=True,
            optimizer=optim.Adam,
            critic_optimizer=optim.Adam,
            scheduler=lambda optimizer: LambdaLR(optimizer, lambda step: 0.9**step),
        )
        data = dlarch.create_data("toy_2d", **RING)
        run = dlarch.fit(model, data, max_steps=steps, max_epochs=-1, **QUIET, **more).run
        return load_checkpoint(run.last), run

    whole, _ = fit(22)
    _, half = fit(first)
    resumed, _ = fit(22, ckpt_path=half.folder)
    assert whole["global_step"] == resumed["global_step"] == 22
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name]), name
    assert whole["dlarch"]["losses"] == resumed["dlarch"]["losses"]
    for one, other in zip(whole["lr_schedulers"], resumed["lr_schedulers"], strict=True):
        assert one["last_epoch"] == other["last_epoch"]


@pytest.mark.usefixtures("_own_runs")
def test_a_loss_that_is_not_finite_ends_the_training_and_keeps_the_last_checkpoint(make):
    class Break(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if batch_idx == 3:
                next(module.generator.parameters()).data.fill_(torch.nan)

    data = dlarch.create_data("toy_2d", **RING)
    with pytest.raises(NonFiniteLossError, match=r"not finite at step 6 \(epoch 0, batch 3\)"):
        dlarch.fit(
            make(no_facts=True), data, name="broken", save_every_n_steps=2, callbacks=[Break()],
            max_epochs=1, **QUIET,
        )  # fmt: skip
    last = load_checkpoint(Path(data.trainer.default_root_dir) / "checkpoints" / "last.ckpt")
    assert last["global_step"] == 6
    assert all(bool(value.isfinite().all()) for value in last["state_dict"].values())


# ---- scores


@pytest.mark.usefixtures("_own_runs")
def test_points_are_scored_by_the_modes_of_the_data(make):
    """A generator that makes the centres of the modes covers all, and evenly."""
    data = dlarch.create_data("toy_2d", shape="ring", size=4000, batch_size=64)
    model = make(no_facts=True)
    dlarch.fit(model, data, max_steps=2, **QUIET)
    centres = data.modes.centres

    def centre(generator, noise, label):
        return centres[(noise[:, 0] * 1e4).long() % 8]

    model.create = centre
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    (scores,) = trainer.test(model, datamodule=data, verbose=False)
    assert scores["test/modes"] == 8
    assert scores["test/high_quality"] == 1
    assert scores["test/mode_kl"] < 0.02
    assert abs(scores["test/mmd"]) < 0.01
    assert model.headline == "test/modes"
    model.create = lambda generator, noise, label: centres[:1].expand(len(noise), 2)
    (scores,) = trainer.test(model, datamodule=data, verbose=False)
    assert scores["test/modes"] == 1
    assert scores["test/mode_kl"] == pytest.approx(math.log(8), rel=1e-5)
    assert scores["test/mmd"] > 0.1


@pytest.fixture
def judge(_own_runs):
    """A run of a classifier of digits, and the data."""
    data = dlarch.create_data("digits", train_size=300, batch_size=50)
    model = dlarch.create_model("mlp", data, hidden_sizes=(20,), pictures=False)
    return dlarch.fit(model, data, name="judge", max_epochs=3, **QUIET).run.folder, data


def test_a_judge_scores_images(judge, make):
    where, data = judge
    options = {"no_facts": True, "judge": str(where), "num_classes": None}
    model = make(CGAN, **options)
    dlarch.fit(model, data, name="judged", max_steps=2, **QUIET)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.validate(model, datamodule=data, verbose=False)
    assert model.headline == "test/frechet_classifier"
    names = {"frechet_classifier", "judge_confidence", "rarest_class", "judge_agreement", "mmd"}
    assert set(model.metrics("val")) == names
    shares = model.class_shares()
    assert sum(shares.real) == pytest.approx(1)
    assert sum(shares.made) == pytest.approx(1)
    assert list(shares.names) == [str(digit) for digit in range(10)]
    assert not any("judge" in name for name in model.state_dict())
    # The real images themselves are taken for what they are, and are at no distance.
    images = {}

    def real(generator, noise, label):
        return images["now"]

    examples = model.real_examples

    def remembered(batch):
        images["now"] = examples(batch)
        return images["now"]

    model.create, model.real_examples = real, remembered
    (scores,) = trainer.validate(model, datamodule=data, verbose=False)
    assert scores["val/frechet_classifier"] == pytest.approx(0, abs=1e-3)
    classifier = AutoModel.from_pretrained(where)
    right = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    (own,) = right.validate(classifier, datamodule=data, verbose=False)
    assert scores["val/judge_agreement"] == pytest.approx(own["val/accuracy"], abs=1e-6)


def test_a_judge_of_other_images_is_refused(judge, make, make_trainer):
    where, _ = judge
    few = dlarch.create_data("digits", train_size=300, classes=["0", "1"], batch_size=50)
    with pytest.raises(MismatchError, match="knows the classes 0, 1, 2"):
        make_trainer(max_steps=1).fit(make(no_facts=True, judge=str(where)), datamodule=few)
    shapes = dlarch.create_data("shapes", size=20, side=16, batch_size=4)
    with pytest.raises(MismatchError, match=r"reads images of shape \(1, 8, 8\)"):
        make_trainer(max_steps=1).fit(make(no_facts=True, judge=str(where)), datamodule=shapes)
    ring = dlarch.create_data("toy_2d", **RING)
    with pytest.raises(OptionError, match="leave out judge"):
        make_trainer(max_steps=1).fit(make(no_facts=True, judge=str(where)), datamodule=ring)


# ---- using a model


@pytest.mark.usefixtures("_own_runs")
def test_points_are_made_in_the_units_of_the_data(make):
    data = dlarch.create_data("toy_2d", shape="grid", size=500)
    model = dlarch.create_model("gan", data, **SIZES)
    noise = torch.randn((3, 3), generator=torch.Generator().manual_seed(4))
    std, mean = torch.tensor(data.processor.std), torch.tensor(data.processor.mean)
    expected = model.generator(noise) * std + mean
    torch.testing.assert_close(torch.tensor(model.generate(3, seed=4)), expected)
    assert model.generate(3, seed=4) != model.generate(3, seed=5)
    with pytest.raises(OptionError, match="knows no classes"):
        model.generate(condition="3")


@pytest.mark.usefixtures("_own_runs")
def test_images_are_made_of_the_class_asked_for():
    data = dlarch.create_data("digits", train_size=50)
    model = dlarch.create_model("cgan", data, **SIZES)
    first, _ = model.generate(2, condition="7", seed=1)
    assert first.shape == (8, 8, 1)
    assert first.dtype.name == "uint8"
    noise = torch.randn((2, 3), generator=torch.Generator().manual_seed(1))
    images = (model.create(model.generator, noise, torch.tensor([7, 7])) + 1) / 2
    assert (torch.tensor(first)[..., 0] / 255 - images[0, 0]).abs().max() < 0.003
    assert (first != model.generate(2, condition="3", seed=1)[0]).any()
    with pytest.raises(DataError, match="There is no class '77'"):
        model.generate(condition="77")


def test_pixels_are_seen_from_minus_1_to_1():
    data = dlarch.create_data("digits", train_size=50, batch_size=10)
    model = dlarch.create_model("gan", data, **SIZES)
    seen = model.real_examples(next(iter(data.val_dataloader())))
    assert seen.min().item() == pytest.approx(-1, abs=1e-5)
    assert seen.max().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["gan", "dcgan", "wgan_gp", "cgan"])
def test_defaults_of_optimizers_can_be_written_into_a_recipe(name, capfd):
    """Else config.yaml of a run could not be read again."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_class_arguments(dlarch.model_info(name).load(), "model")
    text = parser.dump(parser.get_defaults())
    assert "Unable to serialize" not in text
    assert text.count("class_path: dlarch.optim.CalmAdam") == 2
