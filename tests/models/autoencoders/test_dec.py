"""Clusters: where they come from, what is held between updates, when training ends."""

import itertools

import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import optim

import dlarch
from dlarch import AutoModel, create_model
from dlarch.batches import ImageBatch
from dlarch.errors import CheckpointError, MismatchError, OptionError
from dlarch.nn import membership_kl, sharpened, squared_error

SHAPE = (1, 4, 5)
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "test_after_fit": False,
}


@pytest.fixture(autouse=True)
def own_folders(tmp_path, session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DLARCH_RUN_FOLDER", "")
    monkeypatch.delenv("DLARCH_RUN_FOLDER")
    monkeypatch.chdir(tmp_path)


def blobs(count=60):
    """Images around three, in a mixed order, and which."""
    generator = torch.Generator().manual_seed(0)
    middles = (torch.rand((3, *SHAPE), generator=generator) > 0.5).float() * 0.8 + 0.1
    label = torch.arange(count) % 3
    image = middles[label] + 0.05 * torch.randn((count, *SHAPE), generator=generator)
    return ImageBatch(image.clamp(0, 1), label, torch.arange(count))


class Batches(torch.utils.data.IterableDataset):
    """All examples in batches of 20, numbered."""

    def __init__(self, whole):
        self.whole = whole

    def __iter__(self):
        for rows in torch.arange(len(self.whole.image)).split(20):
            yield ImageBatch(*(field[rows] for field in self.whole[:3]))

    def __len__(self):
        return -(-len(self.whole.image) // 20)


def make(name="dec", **options):
    torch.manual_seed(0)
    sizes = {"image_shape": SHAPE, "num_clusters": 3, "code_size": 2, "hidden_sizes": (16,)}
    steps = {"pretrain_epochs": 0, "update_steps": 4, "tolerance": 0.0}
    return create_model(name, **sizes | steps | options)


def fit(model, epochs, whole=None, **options):
    trainer = L.Trainer(
        accelerator="cpu", devices=1, logger=False, max_epochs=epochs, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(model, torch.utils.data.DataLoader(Batches(whole or blobs()), batch_size=None))
    return trainer


class Watch(L.Callback):
    """Keeps what a function of the model gives after each step."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def on_train_batch_end(self, trainer, model, *_):
        self.seen.append(self.look(model))


def state(part):
    return torch.cat([each.detach().flatten().clone() for each in part])


def test_first_the_autoencoder_learns_then_encoder_and_centers():
    model = make(pretrain_epochs=2)
    parts = {
        "encoder": lambda m: state(m.autoencoder.encoder.parameters()),
        "decoder": lambda m: state(m.autoencoder.decoder.parameters()),
        "centers": lambda m: state([m.centers]),
    }
    watches = {name: Watch(look) for name, look in parts.items()}
    fit(model, 4, callbacks=list(watches.values()), num_sanity_val_steps=0)
    moves = {
        name: [not torch.equal(a, b) for a, b in zip(w.seen, w.seen[1:], strict=False)]
        for name, w in watches.items()
    }  # 12 steps, of which 6 are of the autoencoder
    assert moves["encoder"] == [True] * 11
    assert moves["decoder"] == [True] * 5 + [False] * 6
    assert moves["centers"] == [False] * 5 + [True] * 6


def test_idec_goes_on_drawing_images():
    model = make("idec", pretrain_epochs=1)
    watch = Watch(lambda m: state(m.autoencoder.decoder.parameters()))
    fit(model, 3, callbacks=[watch])
    assert not any(torch.equal(a, b) for a, b in zip(watch.seen, watch.seen[1:], strict=False))


def test_centers_begin_where_k_means_of_scikit_learn_puts_them(monkeypatch):
    model = make()
    found = {}

    def place(codes, restarts, usual=model.place):
        usual(codes, restarts)
        found["codes"], found["restarts"] = codes, restarts
        found["centers"] = model.centers.detach().clone()

    monkeypatch.setattr(model, "place", place)
    fit(model, 1)
    expected = KMeans(3, n_init=20, random_state=0).fit(found["codes"].numpy())
    assert found["restarts"] == 20
    own = found["centers"].numpy()
    distances = ((own[:, None] - expected.cluster_centers_) ** 2).sum(2)
    np.testing.assert_allclose(distances.min(1), 0, atol=1e-6)


def test_of_several_starts_that_of_least_inertia_is_kept():
    """One start may end badly; labels are never looked at."""
    random = np.random.default_rng(0)
    rows = np.concatenate([random.normal(m, 0.1, (30, 2)) for m in range(8)]).astype(np.float32)
    model = make(num_clusters=8)
    trainer = L.Trainer(accelerator="cpu", logger=False, barebones=True)
    model.trainer = trainer

    def inertia(restarts):
        model.place(torch.from_numpy(rows), restarts)
        centers = model.centers.detach().numpy()
        return ((rows[:, None] - centers) ** 2).sum(2).min(1).sum()

    torch.manual_seed(3)
    many = inertia(50)
    torch.manual_seed(3)
    assert many <= inertia(1)
    assert many == pytest.approx(KMeans(8, n_init=50, random_state=1).fit(rows).inertia_, rel=1e-3)


def test_targets_are_those_of_the_last_update():
    model, whole = make(update_steps=4), blobs()
    seen = []

    class Look(L.Callback):
        def on_train_batch_start(self, trainer, module, *_):
            module.eval()
            with torch.no_grad():
                q = module.memberships(module.encode(whole.image))
            module.train()
            seen.append(sharpened(q, q.sum(0)))

        def on_train_batch_end(self, trainer, module, *_):
            held.append(module._targets.memberships.clone())

    held = []
    fit(model, 3, callbacks=[Look()])  # 9 steps; updates before 0, 4 and 8
    for step in range(9):
        torch.testing.assert_close(held[step], held[step - step % 4])
    for step in (4, 8):  # callbacks look before the module's own hook updates
        torch.testing.assert_close(held[step], seen[step])
        assert not torch.equal(held[step], held[step - 1])


def test_the_divergence_falls_between_updates():
    model, whole = make(pretrain_epochs=30, update_steps=1000), blobs()

    @torch.no_grad()
    def divergence(model):
        if model._targets is None:
            return None
        q = model.memberships(model.encode(whole.image))
        return membership_kl(model._targets.memberships, q).mean().item()

    watch = Watch(divergence)
    fit(model, 50, callbacks=[watch])
    fallen = [value for value in watch.seen if value is not None][::3]  # after each epoch
    assert len(fallen) == 20
    assert all(later < earlier for earlier, later in itertools.pairwise(fallen))


def test_the_loss_is_the_divergence_and_with_idec_the_squared_errors_too():
    whole = blobs()
    for name, weight, lost in (("dec", 1.0, 0.0), ("idec", 7.0, 1.0)):
        model = make(name, **({"weight": 7.0} if name == "idec" else {}))
        model.placed.fill_(True)
        code = model.encode(whole.image)
        q = model.memberships(code)
        target = sharpened(q, q.sum(0)).detach()
        expected = weight * membership_kl(target, q)
        expected = expected + lost * squared_error(model.decode(code), whole.image)
        torch.testing.assert_close(model.losses(whole), expected)


def test_training_ends_when_hardly_anything_moves():
    trainer = fit(make(update_steps=3, tolerance=0.01), 50)
    assert trainer.global_step < 150
    assert fit(make(update_steps=3, tolerance=0.0), 20).global_step == 60


def test_it_finds_blobs_without_their_names():
    fast = {"optimizer": lambda parameters: optim.Adam(parameters, lr=1e-2)}
    model, whole = make(pretrain_epochs=40, update_steps=6, **fast), blobs()
    trainer = fit(model, 50)
    loader = torch.utils.data.DataLoader(Batches(whole), batch_size=None)
    found = trainer.test(model, loader, verbose=False)[0]
    assert found["test/cluster_accuracy"] == found["test/nmi"] == found["test/ari"] == 1
    assert model.assign(whole.image).shape == (60,)


def test_while_the_autoencoder_learns_figures_are_those_of_k_means():
    model, whole = make(pretrain_epochs=100), blobs()
    trainer = L.Trainer(
        accelerator="cpu", logger=False, max_epochs=5, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    loaders = [torch.utils.data.DataLoader(Batches(whole), batch_size=None) for _ in range(2)]
    trainer.fit(model, *loaders)
    assert not model.placed
    with torch.no_grad():
        clusters = KMeans(3, n_init=5, random_state=0).fit_predict(model.encode(whole.image))
    own = model.assign(whole.image).numpy()
    assert len({*zip(own, clusters, strict=True)}) == 3  # the same, but for their numbers
    loss, sse = (trainer.callback_metrics[f"val/{name}"].item() for name in ("loss", "sse"))
    assert loss == pytest.approx(sse)


def test_plain_batches_without_numbers_will_do():
    class Plain(Batches):
        def __iter__(self):
            for batch in super().__iter__():
                yield batch.image, batch.label

    model = make()
    loader = torch.utils.data.DataLoader(Plain(blobs()), batch_size=None)
    L.Trainer(
        accelerator="cpu", logger=False, max_epochs=3, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(model, loader)  # fmt: skip
    assert model._targets.memberships is None
    assert model._targets.frequencies.sum().item() == pytest.approx(60, rel=1e-5)


# ---- built on a run


def digits():
    return dlarch.create_data("digits", batch_size=16, train_size=48, validation_size=32)


def trained(name, **options):
    torch.manual_seed(0)
    data = digits()
    model = dlarch.create_model(name, data, code_size=6, **options)
    return dlarch.fit(model, data, name=name, max_steps=2, **QUIET).run


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("autoencoder", {"hidden_sizes": (20,)}),
        ("conv_autoencoder", {"widths": (4,)}),
        ("sparse_autoencoder", {"k": 2}),
        ("vae", {"hidden_sizes": (20,)}),
    ],
)
def test_a_trained_autoencoder_of_any_kind_is_the_start(name, options, tmp_path):
    run = trained(name, **options)
    source = AutoModel.from_pretrained(run.folder)
    data = digits()
    model = dlarch.create_model("dec", data, source=str(run.folder), code_size=3)
    image = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model.encode(image), source.encode(image))
        torch.testing.assert_close(model.decode(source.encode(image)), source(image))
    assert model.centers.shape == (10, 6)
    assert model.hparams.pretrain_epochs == 0
    done = dlarch.fit(model, data, name="dec", max_steps=3, **QUIET)
    run.folder.rename(tmp_path / "moved")  # it is not needed any more
    again = AutoModel.from_pretrained(done.run.folder)
    assert again.placed
    assert again.hparams.source["name"] == name
    with torch.no_grad():
        torch.testing.assert_close(again.assign(image), model.assign(image))


def test_a_run_that_ended_early_is_tested_and_can_go_on():
    def fit_digits(**options):
        torch.manual_seed(0)
        data = digits()
        sizes = {"hidden_sizes": (20,), "pretrain_epochs": 1, "update_steps": 1, "tolerance": 1.1}
        model = dlarch.create_model("dec", data, **sizes)
        done = dlarch.fit(model, data, name="dec", max_epochs=9, **QUIET | options)
        return done, model.trainer.global_step

    done, steps = fit_digits(test_after_fit=True)
    assert steps == 3 + 2  # an epoch of 3, then one update to begin with, and one that ends it
    assert "test/cluster_accuracy" in done.metrics
    _, steps = fit_digits(ckpt_path=done.run.folder)
    assert steps == 3 + 2 + 1  # what an update compares with is in the checkpoint


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("runs/none", CheckpointError, "source must be a run of an autoencoder"),
        ({"widths": [4]}, OptionError, "The source has no name"),
        ({"name": "mlp", "in_features": 20, "num_classes": 2}, (MismatchError, OptionError), "mlp"),
        ({"name": "autoencoder", "image_shape": (1, 8, 8)}, MismatchError, "of the shape"),
        ({"name": "idec"}, MismatchError, "no autoencoder of images"),
    ],
)
def test_what_is_no_autoencoder_of_such_images_is_refused(source, error, words):
    with pytest.raises(error, match=words):
        make(source=source)


def test_options_that_cannot_be_are_refused():
    with pytest.raises(OptionError, match="num_clusters must be at least 1"):
        make(num_clusters=0)
    with pytest.raises(OptionError, match="pretrain_epochs must be at least 0"):
        make(pretrain_epochs=-1)
    with pytest.raises(OptionError, match="weight must be at least 0"):
        make("idec", weight=-1.0)
