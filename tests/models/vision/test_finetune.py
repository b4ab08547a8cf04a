import json
import logging
import shutil
import subprocess
import sys

import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn, optim
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torchvision.models import ResNet18_Weights, get_model, resnet18

import dlarch
from dlarch import AutoModel
from dlarch.cli.main import main
from dlarch.errors import CheckpointError, MismatchError, OptionError
from dlarch.models.feedforward.mlp import MLP
from dlarch.models.vision.cnn import CNN
from dlarch.models.vision.finetune import Finetune
from dlarch.processing import ImageProcessor

PARITY = {"even": [0, 2, 4, 6, 8], "odd": [1, 3, 5, 7, 9]}
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
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("DLARCH_DATA", "DLARCH_RUN_FOLDER"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def counts(model):
    parameters = list(model.parameters())
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    return sum(p.numel() for p in parameters), sum(p.numel() for p in learning)


@pytest.fixture
def mnist_body(tmp_path):
    """A 784-300-100-10 network of images of 28 by 28, as it is saved."""
    torch.manual_seed(0)
    model = MLP(in_features=784, num_classes=10)
    model.processor = ImageProcessor((1, 28, 28), [0.13], [0.31], [str(n) for n in range(10)])
    model.save_pretrained(tmp_path / "body")
    return model.eval()


def digits(**options):
    return dlarch.create_data("digits", batch_size=16, train_size=48, validation_size=32, **options)


# ---- the body


def test_heads_on_a_frozen_network_of_mnist_have_their_numbers_of_parameters(mnist_body):
    """784-300-100 has 265,600; a head 50-10 adds 5,560, one of two units 202."""
    facts = {"image_shape": (1, 28, 28), "body": "body", "freeze": True}
    ten = Finetune(num_classes=10, head_sizes=(50,), **facts)
    assert counts(ten) == (271_160, 5_560)
    two = Finetune(num_classes=2, **facts)
    assert counts(two) == (265_802, 202)
    assert counts(Finetune(num_classes=2, image_shape=(1, 28, 28), body="body")) == (265_802,) * 2


def test_the_body_gives_what_the_network_gives_before_its_output(mnist_body):
    model = Finetune(image_shape=(1, 28, 28), num_classes=2, body="body").eval()
    image = torch.randn(4, 1, 28, 28)
    features = mnist_body.hidden(image.flatten(1))
    assert torch.equal(model.body(image), features)
    assert torch.equal(model(image), features @ model.head[0].weight.T + model.head[0].bias)


def test_the_cut_may_lie_further_down(mnist_body):
    model = Finetune(image_shape=(1, 28, 28), num_classes=2, body="body", cut="hidden.4").eval()
    image = torch.randn(4, 1, 28, 28)
    assert torch.equal(model.body(image), mnist_body.hidden[:4](image.flatten(1)))
    assert counts(model)[0] == 784 * 300 + 300 + 300 * 2 + 2
    with pytest.raises(OptionError, match=r"no layer 'hiden'. Did you mean 'hidden'"):
        Finetune(image_shape=(1, 28, 28), num_classes=2, body="body", cut="hiden")


@pytest.mark.parametrize(
    ("name", "published", "features"),
    [
        # https://pytorch.org/vision/stable/models: parameters of the networks with 1,000 classes
        ("resnet18", 11_689_512, 512),
        ("resnet34", 21_797_672, 512),
        ("resnet50", 25_557_032, 2048),
        ("vgg16", 138_357_544, 4096),
        ("vgg19", 143_667_240, 4096),
    ],
)
def test_networks_of_torchvision_lose_their_thousand_classes(name, published, features):
    model = Finetune(image_shape=(3, 32, 32), num_classes=2, body=name)
    assert counts(model)[0] == published - (features * 1000 + 1000) + (features * 2 + 2)


def test_small_grey_images_are_brought_to_what_the_network_reads():
    torch.manual_seed(0)
    model = Finetune(image_shape=(1, 8, 16), num_classes=2).eval()
    image = torch.randn(2, 1, 8, 16)
    given = F.interpolate(image, (32, 64), mode="bilinear").expand(-1, 3, -1, -1)
    torch.testing.assert_close(model.body(image), model.body.network(given))
    assert model.body.size == [32, 64]
    assert Finetune(image_shape=(3, 50, 40), num_classes=2, resize=64).body.size == [64, 64]


def test_larger_images_are_brought_to_those_of_a_dlarch_body(mnist_body):
    model = Finetune(image_shape=(1, 56, 56), num_classes=2, body="body").eval()
    image = torch.randn(2, 1, 28, 28)
    doubled = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    halved = F.interpolate(doubled, (28, 28), mode="bilinear", antialias=True)
    torch.testing.assert_close(model.body(doubled), mnist_body.hidden(halved.flatten(1)))
    assert model.hparams.resize == (28, 28)


def test_a_body_that_cannot_read_the_images_is_refused(mnist_body):
    with pytest.raises(MismatchError, match="grey images, the data are in colours"):
        Finetune(image_shape=(3, 28, 28), num_classes=2, body="body")
    with pytest.raises(OptionError, match="cannot read images of 14 x 14 pixels"):
        Finetune(image_shape=(1, 28, 28), num_classes=2, body="body", resize=14)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("autoencoder", {"hidden_sizes": (20, 10)}),
        ("denoising_autoencoder", {}),
        ("sparse_autoencoder", {"k": 2}),
        ("conv_autoencoder", {"widths": (4,)}),
        ("vae", {"hidden_sizes": (20,)}),
        ("dec", {"hidden_sizes": (20,)}),
    ],
)
def test_the_encoder_of_an_autoencoder_is_a_body(name, options, tmp_path):
    """It sees pixels from 0 to 1, whatever the data are normalised by; its decoder is gone."""
    data = digits()
    torch.manual_seed(0)
    source = dlarch.create_model(name, data, code_size=6, **options)
    source.save_pretrained(tmp_path / "coder")
    model = Finetune(body=str(tmp_path / "coder"))
    batch = next(iter(data.in_order("test")))
    model.make_optimizer = lambda parameters: optim.SGD(parameters, lr=0.0)
    done = dlarch.fit(model, data, name="tuned", max_steps=1, **QUIET)
    with torch.no_grad():
        codes = source.eval().encode(data.processor.to_unit(batch.image))
        torch.testing.assert_close(model.eval().body(batch.image), codes, atol=1e-5, rtol=1e-4)
    seen = {id(each) for each in model.body.network.parameters()}
    assert all("decoder" not in name for name, _ in model.named_parameters())
    assert seen
    (tmp_path / "coder").rename(tmp_path / "moved")
    again = AutoModel.from_pretrained(done.run.folder)
    with torch.no_grad():
        assert torch.equal(again(batch.image), model(batch.image))
    model.make_optimizer = lambda parameters: optim.SGD(parameters, lr=0.1)
    before = [each.clone() for each in model.body.network.parameters()]
    dlarch.fit(model, digits(), name="tuned", max_steps=1, **QUIET)
    after = model.body.network.parameters()
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_an_encoder_may_be_cut_further_down(tmp_path):
    data = digits()
    source = dlarch.create_model("autoencoder", data, code_size=6, hidden_sizes=(20, 10)).eval()
    source.save_pretrained(tmp_path / "coder")
    facts = {"image_shape": (1, 8, 8), "num_classes": 10, "body": str(tmp_path / "coder")}
    model = Finetune(cut="encoder.1.4", **facts).eval()
    image = torch.rand(3, 1, 8, 8)
    assert torch.equal(model.body(image), source.encoder[1][:4](image.flatten(1)))
    assert model.head[0].in_features == 10


@pytest.mark.parametrize("body", ["mlp", {"name": "mlp", "hidden_sizes": [300, 100]}])
def test_a_model_by_name_starts_untrained(body):
    torch.manual_seed(0)
    one = Finetune(image_shape=(1, 28, 28), num_classes=10, body=body, head_sizes=(50,))
    assert counts(one) == (271_160, 271_160)
    assert one.hparams.body == body


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"body": "resnet19"}, OptionError, "no body 'resnet19'. Did you mean 'resnet18'"),
        ({"body": "runs/none"}, CheckpointError, "runs/none"),
        ({"body": {"widths": [3]}}, OptionError, "The body has no name"),
        ({"body": {"name": "cnn", "width": 3}}, OptionError, "no option 'width'.*'widths'"),
        ({"body": "seq2seq_attn"}, MismatchError, "seq2seq_attn' needs source_vocab_size"),
        ({"body": "cnn", "weights": "DEFAULT"}, OptionError, "weights are for resnet18, resnet34"),
        ({"weights": "IMAGENET"}, OptionError, "no weights 'IMAGENET', only IMAGENET1K_V1"),
        ({"body_lr": 0.0}, OptionError, "must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        Finetune(image_shape=(3, 32, 32), num_classes=2, **options)


# ---- weights of torchvision


@pytest.fixture
def weights(tmp_path):
    """Random weights where torch.hub keeps those that it has downloaded."""
    torch.manual_seed(7)
    network = resnet18()
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    path = folder / ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    torch.save(network.state_dict(), path)
    return network.eval(), path


def test_weights_come_from_the_cache_and_are_asked_for_once(weights, tmp_path):
    network, path = weights
    model = Finetune(image_shape=(3, 64, 64), num_classes=2, weights="DEFAULT").eval()
    image = torch.randn(2, 3, 64, 64)
    assert torch.equal(model.body(image), nn.Sequential(*list(network.children())[:-1])(
        image).flatten(1))  # fmt: skip
    assert (model.hparams.body, model.hparams.weights) == ("resnet18", None)
    model.save_pretrained(tmp_path / "saved")
    path.unlink()
    again = AutoModel.from_pretrained(tmp_path / "saved")
    assert torch.equal(again(image), model(image))


def test_without_a_network_it_is_said_where_which_file_belongs(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("dlarch.hub.imagenet.urlopen", unreachable)
    where = tmp_path / "torch/hub/checkpoints/resnet18-f37072fd.pth"
    with pytest.raises(CheckpointError) as found:
        Finetune(image_shape=(3, 64, 64), num_classes=2, weights="DEFAULT")
    assert str(found.value) == (
        "The weights IMAGENET1K_V1 of resnet18 are not on this machine and cannot be downloaded "
        "(no connection): get https://download.pytorch.org/models/resnet18-f37072fd.pth elsewhere "
        f"and place it as {where}."
    )


@pytest.mark.parametrize("content", [b"PK half a file", None])
def test_damaged_or_other_weights_are_named(weights, content):
    _, path = weights
    if content is None:
        torch.save(get_model("resnet34").state_dict(), path)
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{path} does not hold the weights of resnet18"):
        Finetune(image_shape=(3, 64, 64), num_classes=2, weights="DEFAULT")


# ---- normalisation


def test_imagenet_bodies_get_pixels_normalised_as_torchvision_does(weights, tmp_path):
    """Whatever the mean of the data, the body sees what torchvision's transform gives."""
    pixels = np.random.default_rng(1).integers(0, 90, (40, 64, 64, 3), np.uint8)
    for number, image in enumerate(pixels):
        folder = tmp_path / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:02}.png")
    data = dlarch.create_data("image_folder", source=str(tmp_path / "images"), batch_size=8)
    model = Finetune(weights="IMAGENET1K_V1", freeze=True, pictures=False)
    dlarch.fit(model, data, max_steps=1, limit_val_batches=1, **QUIET)
    model.eval()
    transform = ResNet18_Weights.IMAGENET1K_V1.transforms(crop_size=64, resize_size=64)
    files = sorted((tmp_path / "images").rglob("*.png"))[:6]
    wanted = torch.stack([transform(Image.open(path).convert("RGB")) for path in files])
    seen = model.body.as_trained(model.processor.encode(files).image)
    torch.testing.assert_close(seen, wanted, atol=1e-5, rtol=1e-5)
    assert abs(model.processor.mean[0] - 0.485) > 0.2


def test_a_dlarch_body_gets_pixels_normalised_as_its_own_data_were(tmp_path):
    torch.manual_seed(0)
    body = CNN(image_shape=(1, 8, 8), num_classes=10, widths=(8,)).eval()
    body.processor = ImageProcessor((1, 8, 8), [0.5], [0.2], [str(n) for n in range(10)])
    body.save_pretrained(tmp_path / "body")
    model = Finetune(body=str(tmp_path / "body"), freeze=True, pictures=False)
    data = digits(classes=PARITY)
    dlarch.fit(model, data, max_steps=1, limit_val_batches=1, **QUIET)
    raw = np.random.default_rng(1).integers(0, 256, (3, 8, 8), np.uint8)
    theirs, mine = body.processor.encode(raw).image, data.processor.encode(raw).image
    assert not torch.allclose(theirs, mine, atol=0.1)
    torch.testing.assert_close(model.body.as_trained(mine), theirs, atol=1e-5, rtol=1e-5)
    # and again when it is loaded, where the body's run is no longer
    shutil.rmtree(tmp_path / "body")
    model.save_pretrained(tmp_path / "saved")
    again = AutoModel.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(again.body.as_trained(mine), theirs, atol=1e-5, rtol=1e-5)
    assert next(iter(again.classify(list(raw))[0])).name in ("even", "odd")


# ---- what is trained


def fit(model, data=None, epochs=2, **options):
    torch.manual_seed(3)
    return dlarch.fit(model, data or digits(), max_epochs=epochs, **QUIET | options)


def changed(model, before):
    return {name for name, tensor in model.state_dict().items()
            if not torch.equal(tensor, before[name])}  # fmt: skip


def cnn(**options):
    torch.manual_seed(0)
    body = {"name": "cnn", "widths": [8, 16], "convolutions": 1, "dropout": 0.3}
    return Finetune(image_shape=(1, 8, 8), num_classes=10, body=body, pictures=False, **options)


def test_frozen_layers_keep_weights_and_statistics():
    model = cnn(freeze=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fit(model)
    assert changed(model, before) == {"head.0.weight", "head.0.bias"}
    assert not any(layer.training for layer in model.body.network.modules())
    assert model.head.training


def test_layers_are_frozen_up_to_a_name():
    model = cnn(freeze="stages.1")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fit(model)
    names = changed(model, before)
    assert names
    assert {name.split(".")[3] for name in names if "stages" in name} == {"2"}
    assert any("running_mean" in name for name in names)


def test_layers_are_unfrozen_at_their_epoch():
    model = cnn(freeze=True, unfreeze_epoch=1)
    seen = []

    class Watch(L.Callback):
        def on_train_epoch_end(self, trainer, module):
            weight = module.body.network.stages[0][0].weight
            seen.append((weight.detach().clone(), module.body.network.stages[0].training))

    first = model.body.network.stages[0][0].weight.detach().clone()
    fit(model, epochs=3, callbacks=[Watch()])
    assert torch.equal(seen[0][0], first)
    assert not torch.equal(seen[1][0], first)
    assert [training for _, training in seen] == [False, True, True]


@pytest.mark.parametrize("stop", [2, 4, 5])
def test_a_run_resumed_around_the_unfreezing_ends_with_the_same_weights(stop):
    """An epoch has three steps, and the second unfreezes."""
    options = {"freeze": True, "unfreeze_epoch": 1, "body_lr": 0.5, "body_lr_decay": 0.7}
    whole = cnn(**options)
    fit(whole, name="whole")
    half = fit(cnn(**options), name="half", epochs=-1, max_steps=stop).run
    resumed = cnn(**options)
    fit(resumed, name="half", ckpt_path=half.folder)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_groups_learn_more_slowly_toward_the_input():
    model = cnn(body_lr=0.5, body_lr_decay=0.1)
    optimizer = model.configure_optimizers()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-3, 5e-4, 5e-5])
    network = model.body.network
    assert optimizer.param_groups[2]["params"] == list(network.stages[0].parameters())
    # With plain gradient descent a step is the rate times the gradient.
    model.make_optimizer = lambda parameters: optim.SGD(parameters, lr=0.1)
    optimizer = model.configure_optimizers()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    F.cross_entropy(model(torch.randn(8, 1, 8, 8)), torch.arange(8)).backward()
    optimizer.step()
    rates = {id(p): rate for group, rate in zip(optimizer.param_groups, (0.1, 0.05, 0.005),
             strict=True) for p in group["params"]}  # fmt: skip
    for parameter, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.data, old - rates[id(parameter)] * parameter.grad)


def test_schedulers_keep_the_shares_or_are_refused():
    half = cnn(body_lr=0.5, scheduler=lambda optimizer: LambdaLR(optimizer, lambda _: 0.5))
    groups = half.configure_optimizers()["optimizer"].param_groups
    assert [group["lr"] for group in groups] == pytest.approx([5e-4, 2.5e-4, 2.5e-4])
    cycle = cnn(body_lr=0.5, scheduler=lambda optimizer: OneCycleLR(optimizer, 0.1, 10))
    with pytest.raises(OptionError, match="OneCycleLR gives all layers one learning rate"):
        cycle.configure_optimizers()


def test_the_optimizer_holds_what_is_ever_trained():
    def size(model):
        return sum(p.numel() for g in model.configure_optimizers().param_groups
                   for p in g["params"])  # fmt: skip

    assert size(cnn(freeze=True)) == sum(p.numel() for p in cnn().head.parameters())
    assert size(cnn(freeze=True, unfreeze_epoch=2)) == counts(cnn())[0] == size(cnn())


def test_a_frozen_random_body_is_warned_of(caplog, mnist_body):
    with caplog.at_level(logging.WARNING, "dlarch"):
        fit(Finetune(body="body", freeze=True, pictures=False), max_steps=1)
        assert "random weights" not in caplog.text
        fit(cnn(freeze=True), max_steps=1)
    assert "The body has random weights and is frozen: give --model.weights DEFAULT" in caplog.text


def test_a_finetuned_model_is_a_body_itself(tmp_path):
    first = cnn(freeze=True)
    fit(first, max_steps=2)
    first.save_pretrained(tmp_path / "first")
    second = Finetune(image_shape=(1, 8, 8), num_classes=2, body=str(tmp_path / "first"))
    image = torch.randn(2, 1, 8, 8)
    assert torch.equal(second.eval().body(image), first.eval().body(image))
    assert counts(second)[0] == counts(second)[1]  # what was frozen then may learn now
    second.save_pretrained(tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    assert torch.equal(AutoModel.from_pretrained(tmp_path / "second")(image), second(image))


SCRIPT = """
import sys
import lightning as L
import torch
from dlarch import create_data
from dlarch.models.vision.finetune import Finetune

processes = int(sys.argv[1])
L.seed_everything(0, verbose=False)  # which Lightning repeats in each process
model = Finetune(
    body={"name": "mlp", "hidden_sizes": [12, 9]}, freeze="hidden.1", unfreeze_epoch=1,
    optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.2), pictures=False,
)
data = create_data("digits", train_size=64, batch_size=16 // processes)
first = []


class Watch(L.Callback):
    def on_train_epoch_end(self, trainer, module):
        first.append(module.body.network.hidden[1].weight.detach().clone())


trainer = L.Trainer(
    accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
    max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False, limit_val_batches=0, callbacks=[Watch()],
)
trainer.fit(model, datamodule=data)
if trainer.is_global_zero:
    torch.save([*first, *model.state_dict().values()], f"weights{processes}.pt")
"""


@pytest.mark.slow
def test_two_processes_unfreeze_as_one_does(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    for processes in "12":
        subprocess.run([sys.executable, "train.py", processes], check=True, timeout=200)
    one, two = (torch.load(f"weights{n}.pt", weights_only=True) for n in "12")
    for mine, theirs in zip(one, two, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    assert not torch.equal(one[0], one[1])  # the second epoch trains the first layer


# ---- what it is good for


def test_a_trained_body_is_better_than_none_with_twenty_images(tmp_path):
    """Is the digit even? The body has learnt the ten digits; about 15 seconds."""
    torch.manual_seed(1)
    data = dlarch.create_data("digits", shift=0.1, batch_size=32)
    body = dlarch.create_model("cnn", data, widths=(16, 32), dropout=0.2, pictures=False)
    run = dlarch.fit(body, data, max_epochs=8, **QUIET).run

    def score(seed, body, **options):
        torch.manual_seed(seed)
        few = dlarch.create_data("digits", classes=PARITY, train_size=20, shift=0.1, batch_size=10)
        model = dlarch.create_model(
            "finetune", few, body=body, pictures=False,
            optimizer=lambda parameters: optim.Adam(parameters, lr=0.01), **options,
        )  # fmt: skip
        last = {"max_epochs": 40, "limit_val_batches": 0}
        return dlarch.fit(model, few, **QUIET | last | {"test_after_fit": True}).metrics[
            "test/accuracy"
        ]

    scratch, random, tuned = (
        sum(score(seed, source, freeze=freeze) for seed in (1, 2)) / 2
        for source, freeze in (
            ({"name": "cnn", "widths": [16, 32]}, False),
            ({"name": "cnn", "widths": [16, 32]}, True),
            (str(run.folder), True),
        )
    )
    assert tuned > scratch
    assert tuned > random + 0.1


# ---- the command line


def test_a_run_is_used_and_resumed_without_that_of_its_body(tmp_path, capsys):
    short = "--trainer.accelerator cpu --trainer.enable_progress_bar false --model.pictures false"
    short += " --data.train_size 32 --data.batch_size 16 --trainer.max_epochs 1"

    def dlarch(words):
        code = main(words.split())
        found = capsys.readouterr()
        assert code == 0, found.err
        return found.out

    dlarch(f"fit --model cnn --model.widths [8] --data digits {short}")
    body = next((tmp_path / "runs" / "cnn").iterdir())
    dlarch(f"fit --config finetune --model.body runs/cnn --model.freeze true {short}")
    run = next((tmp_path / "runs" / "finetune").iterdir())
    score = json.loads((run / "metrics.json").read_text())["metrics"]["test/accuracy"]
    shutil.rmtree(body)
    for way in (f"--ckpt_path {run}", "--config finetune"):
        assert f"test/accuracy\t{score:.6g}" in dlarch(f"test {way}")
    dlarch(f"fit --ckpt_path {run} --trainer.max_epochs 2")
    assert "body: runs/cnn" in (run / "config.yaml").read_text()  # as it was asked for
    assert AutoModel.from_pretrained(run).hparams.body["widths"] == [8]
