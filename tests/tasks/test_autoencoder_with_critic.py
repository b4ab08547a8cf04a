"""Autoencoders that play against a critic: what is scored, drawn from the prior, and resumed."""

import functools

import lightning as L  # noqa: N812
import pytest
import torch
from torch import optim

import dlarch
from dlarch.batches import ImageBatch
from dlarch.errors import MismatchError, OptionError
from dlarch.models.autoencoders.adversarial_autoencoder import AdversarialAutoencoder
from dlarch.models.autoencoders.vae_gan import VAEGAN
from dlarch.tasks.latent import noise_of, walked

BOTH = pytest.mark.parametrize("kind", [AdversarialAutoencoder, VAEGAN])
SIZES = {"code_size": 3, "hidden_sizes": (10,), "critic_sizes": (8, 8)}
QUIET = {
    "test_after_fit": False,
    "enable_progress_bar": False,
    "logger": False,
    "accelerator": "cpu",
    "devices": 1,
}


@pytest.fixture(autouse=True)
def _own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DLARCH_RUN_FOLDER", "")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def digits():
    return dlarch.create_data("digits", train_size=300, batch_size=50)


def made(kind, **options):
    torch.manual_seed(0)
    return kind(**SIZES | options)


def weights(parameters):
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


@BOTH
def test_no_parameter_is_left_out_and_none_has_two_optimizers(kind, make_trainer, digits):
    model = made(kind)
    make_trainer(max_steps=0).fit(model, datamodule=digits)
    owned = [id(parameter) for place in (0, 1) for parameter in model.learners(place)]
    assert sorted(owned) == sorted(map(id, model.parameters()))
    assert len(set(owned)) == len(owned)


@BOTH
def test_the_trainers_clipping_clips_autoencoder_and_critic(kind, make_trainer, digits):
    sgd = functools.partial(optim.SGD, lr=1.0)
    model = made(kind, image_shape=(1, 8, 8), optimizer=sgd, critic_optimizer=sgd)
    before = [weights(model.learners(place)) for place in (0, 1)]
    make_trainer(gradient_clip_val=0.01, limit_train_batches=1).fit(model, datamodule=digits)
    for place, was in enumerate(before):
        moved = (weights(model.learners(place)) - was).norm()
        assert float(moved) == pytest.approx(0.01, rel=1e-3)


@BOTH
def test_accumulation_is_refused(kind, make_trainer, digits):
    with pytest.raises(OptionError, match=r"a larger --data\.batch_size"):
        make_trainer(accumulate_grad_batches=2).fit(made(kind), datamodule=digits)


# ---- scores


class Perfect(AdversarialAutoencoder):
    """Codes that are drawn ones, moved; images that are real ones."""

    moved = 0.0

    def encode(self, image):
        return torch.randn(image.shape[0], 3, generator=torch.Generator().manual_seed(3)) + (
            self.moved
        )

    def decode(self, code):
        return self.images


def test_codes_like_the_priors_are_at_no_distance(make_trainer):
    model = made(Perfect, image_shape=(1, 8, 8))
    images = torch.rand((900, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    batch = ImageBatch(images, torch.zeros(900, dtype=torch.long), torch.arange(900))
    model.images, found = images, []

    class Once(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([batch])

    for model.moved in (0.0, 1.0, 3.0):
        (scores,) = make_trainer().test(model, Once(), verbose=False)
        found.append(scores["test/code_mmd"])
        assert abs(scores["test/mmd"]) < 0.003  # made ones are the real ones
        assert scores["test/sse"] == 0
    assert abs(found[0]) < 0.005
    assert 0.05 < found[1] < found[2]


def test_a_judge_scores_drawn_images(digits, make_trainer):
    classifier = dlarch.create_model("mlp", digits, hidden_sizes=(20,), pictures=False)
    where = dlarch.fit(classifier, digits, name="judge", max_epochs=2, **QUIET).run.folder
    model = made(VAEGAN, judge=str(where))
    make_trainer(max_steps=2).fit(model, datamodule=digits)
    trainer = make_trainer()
    (scores,) = trainer.validate(model, datamodule=digits, verbose=False)
    assert model.headline == "test/frechet_classifier"
    names = {"frechet_classifier", "judge_confidence", "rarest_class"}
    assert {f"val/{name}" for name in names} <= set(scores)
    assert scores["val/frechet_classifier"] > 0.01
    shares = model.class_shares()
    assert sum(shares.made) == pytest.approx(1)
    assert not any("judge" in name for name in model.state_dict())
    # The real images themselves are at no distance.
    image = {}
    as_unit = model.as_unit

    def remembered(batch):
        image["now"] = as_unit(batch)
        return image["now"]

    model.as_unit, model.decode = remembered, lambda code: image["now"].image
    (scores,) = trainer.validate(model, datamodule=digits, verbose=False)
    assert scores["val/frechet_classifier"] == pytest.approx(0, abs=1e-3)
    few = dlarch.create_data("digits", train_size=300, classes=["0", "1"], batch_size=50)
    with pytest.raises(MismatchError, match="knows the classes 0, 1, 2"):
        make_trainer(max_steps=1).fit(made(VAEGAN, judge=str(where)), datamodule=few)


# ---- images from the prior


@BOTH
def test_images_are_decoded_from_draws_of_the_prior(kind, digits):
    options = {"prior": "mixture"} if kind is AdversarialAutoencoder else {}
    model = dlarch.create_model(kind.registry_name, digits, **SIZES | options)
    first, second = model.generate(2, seed=4)
    assert first.shape == (8, 8, 1)
    assert first.dtype.name == "uint8"
    noise = torch.randn((2, 3), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = model.eval().decode(model.prior(noise))[1, 0]
    assert (torch.tensor(second)[..., 0] / 255 - expected).abs().max() < 0.003
    assert (first != model.generate(1, seed=5)[0]).any()
    with pytest.raises(OptionError, match="knows no classes"):
        model.generate(condition="3")


@BOTH
def test_a_walk_passes_through_drawn_codes(kind, digits):
    model = dlarch.create_model(kind.registry_name, digits, **SIZES)
    images = model.walk(3, steps=4, seed=1)
    assert len(images) == 12
    noise = torch.randn((3, 3), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.eval().decode(walked(noise, 4))[5, 0]
    assert (torch.tensor(images[5])[..., 0] / 255 - expected).abs().max() < 0.003
    with pytest.raises(OptionError, match="at least 1"):
        model.walk(0)


@BOTH
def test_noise_belongs_to_an_images_place(kind):
    model = made(kind, image_shape=(1, 8, 8))
    batch = ImageBatch(torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.tensor([7, 3]))
    assert torch.equal(model._noise(batch), noise_of([7, 3], 2, 3))


@BOTH
def test_pictures_show_what_comes_back_and_what_is_new(kind, digits):
    model = dlarch.create_model(kind.registry_name, digits, **SIZES)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.validate(model, datamodule=digits, verbose=False)
    with torch.no_grad():
        drawn = model.made_images()
        noise = torch.randn((64, 3), generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(drawn["images"][0, 5], model.eval().decode(noise)[5])
    assert drawn["images"].shape == (8, 8, 1, 8, 8)
    assert drawn["reconstructions"].shape == (2, 8, 1, 8, 8)
    assert drawn["interpolations"].shape == (4, 8, 1, 8, 8)
    assert model.kept_codes().codes.shape[1] == 3


# ---- building on one


@BOTH
def test_a_critic_and_a_decoder_are_dropped_where_only_codes_are_wanted(kind):
    model = made(kind, image_shape=(1, 8, 8))
    image = torch.rand(4, 1, 8, 8)
    before = model.encode(image)
    model.drop_decoder()
    assert torch.equal(model.encode(image), before)
    assert not list(model.critic.parameters())
    assert not list(model.decoder.parameters())
