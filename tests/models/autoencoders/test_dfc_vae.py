"""Images compared by the features of a network that nothing trains."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F  # noqa: N812
from torchvision.models import VGG19_Weights, vgg19

import dlarch
from dlarch import AutoModel
from dlarch.batches import ImageBatch
from dlarch.compat.checkpoint_io import load_checkpoint
from dlarch.errors import CheckpointError, MismatchError, OptionError
from dlarch.models.autoencoders.dfc_vae import DFCVAE
from dlarch.models.vision.cnn import CNN
from dlarch.processing import ImageProcessor

SMALL = {"image_shape": (1, 8, 8), "code_size": 3, "hidden_sizes": (12,)}
LAYERS = ("stages.0", "stages.2")
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "test_after_fit": False,
}


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("DLARCH_DATA", "DLARCH_RUN_FOLDER"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def classifier():
    """A classifier of images of 8 by 8 pixels, saved as `body`, that has seen some images."""
    torch.manual_seed(0)
    model = CNN(image_shape=(1, 8, 8), num_classes=10, widths=(4, 6), convolutions=1)
    for _ in range(20):
        model(torch.randn(16, 1, 8, 8) + 0.5)  # its normalisation learns
    model.processor = ImageProcessor((1, 8, 8), [0.3], [0.4], [str(n) for n in range(10)])
    model.save_pretrained("body")
    return model.eval()


@pytest.fixture
def image():
    return torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def made(**options):
    torch.manual_seed(0)
    return DFCVAE(**SMALL | {"body": "body", "layers": LAYERS} | options)


def digits(**options):
    return dlarch.create_data("digits", batch_size=16, train_size=48, validation_size=32, **options)


# ---- the loss


def test_the_loss_is_the_papers(classifier, image):
    """Divergence by torch, features by the layers of the classifier itself, written out."""
    model = made(feature_weight=7.0)
    torch.manual_seed(2)
    losses = model.losses(ImageBatch(image, None))
    torch.manual_seed(2)
    noise = torch.randn(5, 3)
    posterior = model.posterior(image)
    normal = Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    expected = kl_divergence(normal, Normal(0.0, 1.0)).sum(1)
    back = torch.sigmoid(model.decoder(normal.mean + normal.stddev * noise))
    one, other = (image - 0.3) / 0.4, (back - 0.3) / 0.4
    for depth in (1, 3):  # the first convolution; pooling and the second one
        phi = classifier.stages[:depth]
        errors = (phi(one) - phi(other)).square()
        expected = expected + 7 * errors.sum((1, 2, 3)) / (2 * errors[0].numel())
    torch.testing.assert_close(losses, expected)


def test_pixels_may_be_compared_besides(classifier, image):
    code = torch.randn(5, 3)
    alone, both = made(), made(pixel_weight=0.25)
    logits = alone.output(code)
    pixels = F.binary_cross_entropy_with_logits(logits, image, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(both.nats(image, code), alone.nats(image, code) + 0.25 * pixels)


def test_all_activations_are_compared_if_none_is_named(classifier, image):
    model = made(layers=())
    assert model.hparams.layers == ("stages.0.2", "stages.2.2")
    torch.testing.assert_close(
        model.nats(image, torch.ones(5, 3)), made().nats(image, torch.ones(5, 3))
    )


# ---- the body


def test_nothing_trains_the_body(classifier):
    data, model = digits(), DFCVAE(body="body", layers=LAYERS, pictures=False)
    run = dlarch.fit(model, data, max_epochs=2, **QUIET).run
    network = model.body.network
    assert not list(network.parameters())
    assert not any("body" in name for name, _ in model.named_parameters())
    kept = classifier.state_dict()
    states = {n: v for n, v in network.state_dict().items() if n in kept}
    assert states.keys() == {name for name in kept if name.startswith(LAYERS)}
    for name, value in states.items():  # means of batch normalisation among them
        assert torch.equal(value, kept[name]), name
    checkpoint = load_checkpoint(run.last)
    (group,) = checkpoint["optimizer_states"][0]["param_groups"]
    assert len(group["params"]) == len(list(model.parameters()))
    stored = [name for name in checkpoint["state_dict"] if name.startswith("body.network")]
    assert len(stored) == len(states)


def test_the_body_stays_in_eval_mode(classifier):
    model = made().train()
    assert model.training
    assert not any(module.training for module in model.body.modules())
    model.eval().train()
    assert not model.body.network.training


def test_the_model_loads_without_its_body(classifier, tmp_path):
    data, model = digits(), DFCVAE(body="body", layers=LAYERS, pictures=False)
    run = dlarch.fit(model, data, max_epochs=1, **QUIET).run
    shutil.rmtree("body")
    again = AutoModel.from_pretrained(run.folder)
    image, code = torch.rand(3, 1, 8, 8), torch.randn(3, 50)
    model.eval()
    assert torch.equal(again.nats(image, code), model.nats(image, code))
    again.save_pretrained("saved")
    torch.testing.assert_close(
        AutoModel.from_pretrained("saved").nats(image, code), again.nats(image, code)
    )
    resumed = dlarch.fit(
        DFCVAE(**again.hparams), digits(), ckpt_path=run.folder, max_epochs=2, **QUIET
    )
    assert resumed.run.folder == run.folder


def test_an_initializer_leaves_the_body_alone(classifier):
    model = made(initializer=lambda weight: nn.init.constant_(weight, 0.07))
    assert model.mean.weight.eq(0.07).all()
    assert torch.equal(model.body.network.stages[0][0].weight, classifier.stages[0][0].weight)


def test_images_of_another_size_are_brought_to_the_bodys(classifier):
    model = made(image_shape=(1, 16, 16))
    assert model.hparams.resize == (8, 8)
    image = torch.rand(2, 1, 16, 16)
    small = F.interpolate(image, (8, 8), mode="bilinear", antialias=True)
    first = model.features(image)["stages.0"]
    torch.testing.assert_close(first, classifier.stages[0]((small - 0.3) / 0.4))


def test_a_body_that_has_learnt_nothing_is_warned_of(classifier, caplog):
    for body, warned in (("cnn", True), ("body", False)):
        caplog.clear()
        model = DFCVAE(body=body, code_size=3, pictures=False)
        with caplog.at_level("WARNING"):
            dlarch.fit(model, digits(), max_steps=1, **QUIET)
        assert ("random weights" in caplog.text) == warned


def test_what_does_not_fit_is_refused(classifier):
    with pytest.raises(OptionError, match=r"no layer 'stages.9'"):
        made(layers=("stages.0", "stages.9"))
    with pytest.raises(MismatchError, match="grey images, the data are in colours"):
        made(image_shape=(3, 8, 8))
    with pytest.raises(OptionError, match="feature_weight must be above 0"):
        made(feature_weight=0.0)
    with pytest.raises(OptionError, match="weights are for resnet18"):
        made(weights="DEFAULT")
    with pytest.raises(OptionError, match="do not pass through"):
        made(body={"name": "conv_autoencoder"}, layers=("decoder",))
    with pytest.raises(OptionError, match="no layers that are activations"):
        made(body="image_rnn", layers=())


# ---- networks of torchvision


@pytest.fixture
def vgg(monkeypatch):
    """VGG-19 but for its large classifier, with random weights where torch.hub looks for them."""

    def small(name="vgg19"):
        assert name == "vgg19"
        torch.manual_seed(3)
        with torch.device("meta"):
            network = vgg19()
        network.classifier = nn.Linear(25088, 2)
        network.features.to_empty(device="cpu")
        for layer in network.features:
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()
        return network

    monkeypatch.setattr("torchvision.models.get_model", small)
    return small()


def place(network):
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(VGG19_Weights.DEFAULT.url).name
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    return path


def test_features_of_vgg_are_those_of_normalised_images(vgg):
    torch.manual_seed(9)
    for layer in vgg.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    path = place(vgg)
    layers = ("features.1", "features.6", "features.11")  # relu1_1, relu2_1 and relu3_1
    options = {"image_shape": (3, 32, 32), "body": "vgg19", "layers": layers}
    model = made(**options, weights="DEFAULT")
    image = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(each)[:, None, None] for each in (
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ))  # fmt: skip
    found, x = model.features(image), (image - mean) / std
    for depth, (name, maps) in enumerate(found.items()):
        assert name == layers[depth]
        torch.testing.assert_close(maps, vgg.features[: (2, 7, 12)[depth]](x))
    assert [maps.shape[1:] for maps in found.values()] == [(64, 32, 32), (128, 16, 16), (256, 8, 8)]
    # What lies behind relu3_1 is not kept: 64, 64, 128, 128 and 256 filters are.
    count = sum(b.numel() for n, b in model.body.network.named_buffers() if "features" in n)
    assert count == sum(p.numel() for p in vgg.features[:12].parameters()) == 555_328
    # A saved model does not ask for the weights again.
    path.unlink()
    model.save_pretrained("saved")
    again = AutoModel.from_pretrained("saved")
    assert again.hparams.weights is None
    assert torch.equal(again.features(image)["features.11"], found["features.11"])


def test_weights_that_are_not_there_are_named(vgg):
    with pytest.raises(CheckpointError, match=r"get https://\S*vgg19\S*pth elsewhere and place it"):
        made(image_shape=(3, 32, 32), body="vgg19", weights="DEFAULT")
