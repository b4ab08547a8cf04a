"""Networks that make images and points: what minutes of one core must reach."""

import pytest
import torch

import dlarch
from dlarch import AutoModel
from dlarch.batches import ImageBatch

pytestmark = [pytest.mark.quality, pytest.mark.long, pytest.mark.timeout(3600)]

JUDGE = "--model cnn --data mnist --data.train_size 10000 --model.widths [16,32]"
JUDGE += " --model.convolutions 1 --trainer.max_epochs 3 --seed_everything 1"
"""A classifier of digits that is good enough to count those that were made."""


@pytest.fixture
def judge(fit, need_stored):
    """Its run folder; it finds 97 of 100 digits."""
    need_stored("ylecun/mnist")
    run = fit(JUDGE)
    assert run.metrics["test/accuracy"] > 0.97
    return run.folder


# ---- modes of points


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_packing_and_gradient_penalty_keep_the_modes_of_a_ring(fit, seed):
    plain = fit(f"--config gan --seed_everything {seed}").metrics
    packed = fit(f"--config gan --model.packing 2 --seed_everything {seed}").metrics
    penalised = fit(f"--config wgan_gp --seed_everything {seed}").metrics
    print({"plain": plain, "packed": packed, "penalised": penalised})
    assert plain["test/modes"] < 8
    assert max(packed["test/modes"], penalised["test/modes"]) >= 7
    assert max(packed["test/high_quality"], penalised["test/high_quality"]) >= 0.9


def test_the_critic_of_wgan_gp_has_slopes_of_1_and_its_distance_falls(fit):
    run = fit("--config wgan_gp --trainer.log_every_n_steps 200")
    model = AutoModel.from_pretrained(run.folder)
    data = dlarch.create_data("toy_2d", shape="ring", size=25_000, processor=model.processor)
    data.prepare_data()
    data.setup("test")
    real = data.dataset("test").features
    made = model(torch.randn(len(real), model.noise_size)).detach()
    assert 0.9 <= model.slopes(real, made).mean().item() <= 1.1
    rows = (run.folder / "history.csv").read_text(encoding="utf-8").splitlines()
    place = rows[0].split(",").index("train/critic_loss")
    losses = [float(row.split(",")[place]) for row in rows[1:] if row.split(",")[place]]
    assert abs(losses[-1]) < 0.5 * max(map(abs, losses))


# ---- images


def test_dcgan_makes_all_digits(fit, judge):
    words = "--config dcgan_mnist --data.train_size 10000 --data.batch_size 64 --model.width 24"
    run = fit(f"{words} --trainer.max_epochs 4 --model.judge {judge}")
    assert run.metrics["test/rarest_class"] >= 0.03
    assert run.metrics["test/judge_confidence"] >= 0.7
    model = AutoModel.from_pretrained(run.folder)
    data = dlarch.create_data("mnist", processor=model.processor, batch_size=500)
    data.prepare_data()
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    with torch.no_grad():
        real = model.rate(model.real_examples(batch), batch.label)
        noise = torch.randn(500, model.noise_size)
        made = model.rate(model.create(model.generator, noise, batch.label), batch.label)
    right = ((real > 0).float().mean() + (made < 0).float().mean()).item() / 2
    assert 0.05 < right < 0.999


def test_made_digits_are_those_asked_for_and_teach_a_classifier(fit, judge, tmp_path):
    """Agreement of the judge, and the classification accuracy score (1905.10887)."""
    words = "--config cgan_mnist --data.train_size 10000 --data.batch_size 64 --model.width 24"
    run = fit(f"{words} --trainer.max_epochs 4 --model.judge {judge}")
    assert run.metrics["test/judge_agreement"] >= 0.8
    assert classification_accuracy(AutoModel.from_pretrained(run.folder), tmp_path) >= 0.7


def classification_accuracy(model, folder, per_class: int = 500) -> float:
    """Accuracy on real digits of a classifier that has seen made ones alone."""
    import lightning as L  # noqa: N812

    names, images = model.processor.class_names, []
    for place, name in enumerate(names):
        images += model.generate(per_class, condition=name, seed=place)
    inputs = model.processor.encode(images).image
    labels = torch.arange(len(names)).repeat_interleave(per_class)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    batches = [ImageBatch(inputs[part], labels[part]) for part in order.split(64)]

    class Made(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(batches)

        def __len__(self):
            return len(batches)

    data = dlarch.create_data("mnist", processor=model.processor)
    torch.manual_seed(1)
    classifier = dlarch.create_model("cnn", data, widths=(16, 32), convolutions=1, pictures=False)
    trainer = L.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(classifier, Made())
    (scores,) = trainer.test(classifier, datamodule=data, verbose=False)
    return scores["test/accuracy"]
