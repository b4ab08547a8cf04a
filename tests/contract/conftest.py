"""What contract tests share: the table of exemptions, tiny models and a quiet Trainer.

The tests run over the registry, so a model or data module is covered by being registered. What a
kind of batch needs (how its examples are taken apart) is read off its tensors; what a source of
data needs to be small stands in `SMALL_DATA`.
"""

import dataclasses
import functools
import inspect
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dlarch import create_data, create_model, data_info, model_info
from dlarch.batches import TextBatch
from dlarch.errors import UserError
from dlarch.spec import PAD, DataSpec, lacking_facts
from dlarch.tasks.latent import noise_of

EXEMPTIONS: dict[tuple[str, str], str] = {
    ("mlp", "paper"): "Rumelhart, Hinton and Williams (1986) is not on arXiv",
    ("mlp", "gradients"): "both give the same gradients, as tests/nn/test_backpropagation.py shows",
    ("cnn", "paper"): "LeCun et al. (1998) is not on arXiv",
    ("perceptron", "paper"): "Rosenblatt (1958) is not on arXiv",
    ("logistic_regression", "paper"): "Cox (1958) is not on arXiv",
    ("rbf_network", "paper"): "Broomhead and Lowe (1988) is not on arXiv",
    ("rnn_classifier", "paper"): "Elman (1990) is not on arXiv",
    ("rnn_regressor", "cell_backend"): "gives the same, as tests/nn/test_recurrent.py shows",
    ("char_rnn", "cell_backend"): "gives the same, as tests/nn/test_recurrent.py shows",
    ("rnn_classifier", "cell_backend"): "gives the same, as tests/nn/test_recurrent.py shows",
    ("vae", "overfit"): "what a code tells costs nats, as its own tests show",
    ("beta_vae", "overfit"): "what a code tells costs nats, as its own tests show",
    ("cvae", "overfit"): "what a code tells costs nats, as its own tests show",
    ("factor_vae", "overfit"): "what a code tells costs nats, as its own tests show",
    ("dfc_vae", "overfit"): "what a code tells costs nats, as its own tests show",
    ("dfc_vae", "weights"): "needs a download; its own tests have a file",
    ("iwae", "overfit"): "what a code tells costs nats, as its own tests show",
    ("gan", "overfit"): "has no loss to fall; tests/models/gans/test_gan.py learns a ring",
    ("wgan_gp", "overfit"): "has no loss to fall; tests/models/gans/test_gan.py learns a ring",
    ("dcgan", "overfit"): "has no loss to fall; tests/models/gans/test_dcgan.py learns a figure",
    ("cgan", "overfit"): "has no loss to fall; tests/models/gans/test_cgan.py learns classes",
    (
        "vae_gan",
        "overfit",
    ): "has no loss to fall; its own tests learn digits",
    ("adversarial_autoencoder", "judge"): "needs a run; the tests of its task have one",
    ("vae_gan", "judge"): "needs a run; the tests of its task have one",
    ("gan", "judge"): "needs a run; tests/tasks/test_adversarial.py has one",
    ("wgan_gp", "judge"): "needs a run; tests/tasks/test_adversarial.py has one",
    ("dcgan", "judge"): "needs a run; tests/tasks/test_adversarial.py has one",
    ("cgan", "judge"): "needs a run; tests/tasks/test_adversarial.py has one",
    ("autoencoder", "paper"): "Hinton and Salakhutdinov (2006) is not on arXiv",
    ("conv_autoencoder", "paper"): "Masci et al. (2011) is not on arXiv",
    ("denoising_autoencoder", "paper"): "Vincent et al. (2010) is not on arXiv",
    ("idec", "paper"): "Guo et al. (2017) is not on arXiv",
    ("dec", "gradient"): "the decoder learns before clusters are there, as its own tests show",
    ("dec", "overfit"): "the loss is what clusters should become, which moves, as its tests show",
    ("idec", "overfit"): "the loss is what clusters should become, which moves, as its tests show",
    ("dec", "restarts"): "all find the same clusters of six images, as its own tests show",
    ("idec", "restarts"): "all find the same clusters of six images, as its own tests show",
    ("sentence_vae", "overfit"): "four texts cost log 4 nats each, as its own tests show",
    ("lstm_classifier", "paper"): "Hochreiter and Schmidhuber (1997) is not on arXiv",
    ("lstm_attention", "paper"): "Yang et al. (2016) is not on arXiv",
    ("lstm_classifier", "cell_backend"): "gives the same, as tests/nn/test_recurrent.py shows",
    ("lstm_attention", "cell_backend"): "gives the same, as tests/nn/test_recurrent.py shows",
    ("text_cnn", "vectors"): "needs a file of vectors; tests/tasks/test_vectors.py has one",
    ("lstm_classifier", "vectors"): "needs a file of vectors; tests/tasks/test_vectors.py has one",
    ("lstm_attention", "vectors"): "needs a file of vectors; tests/tasks/test_vectors.py has one",
    ("text_mlp", "paper"): "Salton and Buckley (1988) is not on arXiv",
    ("text_mlp", "vectors"): "needs a file; tests/models/text/test_text_mlp.py has one",
    ("finetune", "weights"): "needs a download; tests/models/vision/test_finetune.py has a file",
    ("linear_regression", "paper"): "Gauss (1809) is not on arXiv",
    ("bayesian_linear_regression", "paper"): "MacKay (1992) is not on arXiv",
    ("pls", "paper"): "Wold (1975) is not on arXiv",
    ("ngram", "paper"): "Kneser and Ney (1995) is not on arXiv",
    ("ngram", "two processes"): "it counts in one, and says so: tests/models/text/test_ngram.py",
    ("ngram", "gradient"): "it counts; tests/models/text/test_ngram.py compares with a dictionary",
    ("ngram", "overfit"): "smoothing keeps some probability for what was not seen",
}
"""(model or data module, test or argument) to the reason why it is left out there."""

COUNTS = {"models": 49, "data": 19, "exemptions": 55}
"""What is registered; raised with each model, so that none is lost unseen."""

SMALL_DATA: dict[str, dict[str, Any]] = {
    "translation": {"source": "copy", "train_size": 48, "batch_size": 16},
    "labelled_text": {"train_size": 48, "batch_size": 16},
    "names": {"locales": ["fi_FI"], "train_size": 48, "batch_size": 16},
    "text_corpus": {"window": 16, "batch_size": 16},
    "imdb": {"train_size": 48, "batch_size": 16, "max_length": 20},
    "digits": {"train_size": 48, "batch_size": 16},
    "mnist": {"train_size": 48, "batch_size": 16},
    "fashion_mnist": {"train_size": 48, "batch_size": 16},
    "cifar10": {"train_size": 48, "batch_size": 16},
    "image_folder": {"source": "pets", "batch_size": 16, "size": 16},
    "celeba": {"source": "celeba", "size": 16, "batch_size": 16},
    "shapes": {"size": 60, "side": 16, "batch_size": 16},
    "logic_gates": {"inputs": 4, "batch_size": 4},
    "toy_2d": {"size": 60, "batch_size": 16},
    "curves_1d": {"size": 60, "batch_size": 16},
    "table": {"batch_size": 16},
    "sine": {"length": 10, "eval_length": 16, "train_size": 48, "eval_size": 20, "batch_size": 16},
    "adding": {"length": 10, "train_size": 48, "eval_size": 20, "batch_size": 16},
    "recall": {"length": 10, "train_size": 48, "eval_size": 20, "batch_size": 16},
}
"""Arguments that make a data module small enough to train on in a second."""

SMALL_MODELS: dict[str, dict[str, Any]] = {
    "finetune": {"body": {"name": "cnn", "widths": [8, 16]}},
    "dfc_vae": {"body": {"name": "cnn", "widths": [8, 16]}},
    "dcgan": {"width": 8},
    "wgan_gp": {"critic_steps": 1},
    "sparse_autoencoder": {"k_steps": 0},
    "dec": {"num_clusters": 3, "pretrain_epochs": 0, "update_steps": 1},
    "idec": {"num_clusters": 3, "pretrain_epochs": 0, "update_steps": 1},
}
"""Arguments of a model that has no small default, or that make all its parts learn at once."""

RATES = {"conv_seq2seq": 1e-3, "embedding_bag": 5e-2}
"""Learning rate for a model whose layers, gated and not normalised, diverge with 5e-3, or whose
means over a text change slowly."""

OTHER_VALUES: dict[tuple[str, str], Any] = {
    ("beta_vae", "optimizer"): lambda parameters: torch.optim.SGD(parameters, lr=1e-4),
    ("factor_vae", "optimizer"): lambda parameters: torch.optim.SGD(parameters, lr=1e-4),
    ("dfc_vae", "optimizer"): lambda parameters: torch.optim.SGD(parameters, lr=1e-4),
    ("dfc_vae", "body"): {"name": "mlp", "hidden_sizes": [20]},
    ("dfc_vae", "resize"): 8,
    ("dfc_vae", "layers"): ["stages.0"],
    ("finetune", "body"): {"name": "mlp", "hidden_sizes": [20]},
    ("finetune", "cut"): "stages.3",
    ("finetune", "resize"): 8,
    ("finetune", "unfreeze_epoch"): 0,
    ("transformer", "positions"): 20,
    ("dec", "source"): {"name": "conv_autoencoder", "code_size": 4},
    ("idec", "source"): {"name": "conv_autoencoder", "code_size": 4},
    ("idec", "optimizer"): functools.partial(torch.optim.SGD, lr=1e-4),  # its loss is a large sum
    ("dec", "tolerance"): 1.1,
    ("idec", "tolerance"): 1.1,
}
"""(model, argument) to another value, where not every one of its type will do."""

CIFAR10_CLASSES = [
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
]


LOSSES = {
    "Adversarial": ("train/generator_loss", "train/critic_loss", "val/mmd", "test/mmd"),
    "AutoencoderWithCritic": (
        "train/generator_loss",
        "train/critic_loss",
        "train/reconstruction",
        "val/code_mmd",
        "test/code_mmd",
    ),
}
"""Task to what it logs instead of `train/loss`, `val/loss` and `test/loss`."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A registered model, and how to make tiny ones of it."""

    name: str

    @functools.cached_property
    def cls(self) -> Any:
        return model_info(self.name).load()

    def example(self, size: int = 6, seed: int = 1) -> tuple[DataSpec, Any]:
        return self.cls.example(size, seed)

    @property
    def small(self) -> dict[str, Any]:
        """Arguments that make it small."""
        return SMALL_MODELS.get(self.name, {})

    def make(self, seed: int = 0, **options: Any) -> Any:
        """A model for the task's example; the seed decides its weights."""
        torch.manual_seed(seed)
        return create_model(self.name, self.example()[0], **self.small | options)

    def outputs(self, model: Any, batch: Any) -> list[Tensor]:
        """Tensors that `forward` returns; its arguments are the first fields of the batch.

        A generator begins with noise instead of an example: that which belongs to its place.
        """
        count = len(inspect.signature(self.cls.forward).parameters) - 1
        if hasattr(model, "noise_size"):
            batch = (noise_of(batch.example.tolist(), model.noise_size), batch.label)
        with torch.no_grad():
            found = model(*batch[:count])
        found = found if isinstance(found, tuple) else (found,)
        return [tensor for tensor in found if isinstance(tensor, Tensor)]

    @property
    def losses(self) -> tuple[str, ...]:
        """What is logged of training, validation and test whatever the model."""
        usual = ("train/loss", "val/loss", "test/loss")
        return LOSSES.get(model_info(self.name).task, usual)

    @property
    def by_gradients(self) -> bool:
        """Whether the model is trained by gradients; else one epoch computes its weights."""
        return bool(self.cls.learns_by == "gradients")

    def data_name(self) -> str:
        """A data module whose batches the model takes, and that knows what it must know."""
        return next(
            name
            for name in SMALL_DATA
            if takes(self.cls, data_info(name).load()) and builds(self.cls, facts_of(name))
        )

    def data(self, **options: Any) -> Any:
        name = self.data_name()
        return create_data(name, **SMALL_DATA[name] | options)

    def exempt(self, what: str) -> None:
        """Skip, with the reason in the table, if there is one."""
        if (self.name, what) in EXEMPTIONS:
            pytest.skip(EXEMPTIONS[self.name, what])


@functools.cache
def facts_of(name: str) -> dict[str, Any]:
    """The facts of a small data module."""
    data = create_data(name, **SMALL_DATA[name])
    data.prepare_data()
    data.setup("fit")
    facts: dict[str, Any] = data.spec.facts()
    return facts


def builds(model_class: Any, facts: dict[str, Any]) -> bool:
    """Whether a model can be built from the facts of some data."""
    if lacking_facts(model_class.build, facts):
        return False
    names = inspect.signature(model_class).parameters
    try:
        model_class(**{name: value for name, value in facts.items() if name in names})
    except UserError:
        return False
    return True


def takes(model_class: Any, data_class: Any) -> bool:
    """Whether a model takes the batches of a data module."""
    kinds = model_class.batch_type
    return data_class.batch_type in (kinds if isinstance(kinds, tuple) else (kinds,))


def write_images(root: Path) -> None:
    """A few images in the layout of each source: data sets of the Hub, and class folders."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    random = np.random.default_rng(0)

    def images(shape: tuple[int, ...], count: int) -> list[Image.Image]:
        return [Image.fromarray(random.integers(0, 256, shape, np.uint8)) for _ in range(count)]

    digits = [str(digit) for digit in range(10)]
    for name, column, shape, classes in (
        ("ylecun/mnist", "image", (28, 28), digits),
        ("zalando-datasets/fashion_mnist", "image", (28, 28), digits),
        ("uoft-cs/cifar10", "img", (32, 32, 3), CIFAR10_CLASSES),
    ):
        (root / name / "data").mkdir(parents=True)
        features = Features({column: ImageFeature(), "label": ClassLabel(names=classes)})
        for split, count in (("train", 80), ("test", 20)):
            rows = {column: images(shape, count), "label": [n % 10 for n in range(count)]}
            path = root / name / "data" / f"{split}-00000-of-00001.parquet"
            Dataset.from_dict(rows, features=features).to_parquet(path)
    for split in ("train", "test"):
        for kind in ("cats", "dogs"):
            write_class(root / "pets" / split / kind, images((20, 24, 3), 30))
    write_faces(root / "celeba", images((22, 18, 3), 80))


def write_faces(folder: Path, images: list[Image.Image]) -> None:
    """Images as CelebA is handed out: 60 for training, the others for validation and test."""
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06}.jpg" for number in range(len(images))]
    for name, image in zip(names, images, strict=True):
        image.save(folder / "img_align_celeba" / name)
    lines = [
        str(len(names)),
        "Smiling",
        *(f"{name} {n % 2 * 2 - 1}" for n, name in enumerate(names)),
    ]
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines))
    lines = [f"{name} {0 if n < 60 else 1 + n % 4 // 2}" for n, name in enumerate(names)]
    (folder / "list_eval_partition.txt").write_text("\n".join(lines))


def write_reviews(root: Path) -> None:
    """A few reviews in the layout of the Hub."""
    from datasets import ClassLabel, Dataset, Features, Value

    folder = root / "stanfordnlp" / "imdb" / "plain_text"
    folder.mkdir(parents=True)
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    for split, count in (("train", 120), ("test", 30)):
        texts = [f"Film {n} is {('bad', 'good')[n % 2]}.<br />Really." for n in range(count)]
        rows = {"text": texts, "label": [n % 2 for n in range(count)]}
        path = folder / f"{split}-00000-of-00001.parquet"
        Dataset.from_dict(rows, features=features).to_parquet(path)


def write_class(folder: Path, images: list[Image.Image]) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(folder / f"{number}.png")


def is_sequence(field: Any) -> bool:
    """Whether a field of a batch holds padded ids."""
    return isinstance(field, Tensor) and field.dim() == 2 and not field.is_floating_point()


def take(batch: Any, rows: list[int]) -> Any:
    """Some examples of a batch, without padding that they do not need."""
    picked = []
    for field in batch:
        if isinstance(field, Tensor):
            field = field[rows]
            if is_sequence(field):
                field = field[:, : int((field != PAD).any(0).nonzero().max()) + 1]
        elif field is not None:
            field = [field[row] for row in rows]
        picked.append(field)
    return type(batch)(*picked)


def unavoidable(model: Any, batch: Any) -> float:
    """Nats per token that no model saves: where texts that begin alike go on differently.

    0 for a model that is told their classes, which are different in a handful.
    """
    if not isinstance(batch, TextBatch) or not hasattr(model, "written_texts"):
        return 0.0
    if model.hparams.get("num_conditions"):
        return 0.0
    texts = [tuple(row[row != PAD].tolist()) for row in batch.tokens]
    after = Counter(text[:end] for text in texts for end in range(1, len(text)))
    both = Counter(text[: end + 1] for text in texts for end in range(1, len(text)))
    nats = sum(count * math.log(after[text[:-1]] / count) for text, count in both.items())
    return nats / both.total()


def widen(batch: Any, columns: int = 4) -> Any:
    """The same examples with more padding."""
    return type(batch)(*(F.pad(f, (0, columns), value=PAD) if is_sequence(f) else f for f in batch))


class Loader(torch.utils.data.IterableDataset):
    """Batches as a loader; Lightning takes a plain list for several loaders."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def quiet_trainer(folder: Path, **options: Any) -> L.Trainer:
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "max_epochs": 1,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    return L.Trainer(**defaults | options)


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Subject:
    """The model that a test is parametrised with."""
    return Subject(request.param)


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    return functools.partial(quiet_trainer, tmp_path)


@pytest.fixture(scope="session")
def helpers() -> Any:
    """The functions of this file, for test modules that cannot import a conftest."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def session_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dlarch-data")
    write_images(folder)
    write_reviews(folder)
    return folder


@pytest.fixture(autouse=True)
def _own_folders(
    tmp_path: Path, session_cache: Path, session_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of a test are its own, data and caches tests'; what it sets in the environment ends."""
    for name in ("DLARCH_RUN_FOLDER", "PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DLARCH_DATA", str(session_data))
    monkeypatch.setenv("TORCH_HOME", str(session_data / "torch"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(tmp_path: Path) -> Any:
    """Run `dlarch WORDS` as a process of its own."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.run(
            [sys.executable, "-m", "dlarch", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=250,
        )

    return run
