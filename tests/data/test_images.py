import pickle

import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import dlarch
from dlarch.batches import ImageBatch
from dlarch.data.splits import carved
from dlarch.errors import DataError, MismatchError, OptionError, UnknownNameError

COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DLARCH_DATA", raising=False)


@pytest.fixture
def folder(tmp_path):
    """Images of three colours, in class folders."""
    root = tmp_path / "colours"
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(40):
            shade = np.full((9, 12, 3), colour, np.uint8)
            shade[0, 0] = number
            Image.fromarray(shade).save(root / name / f"{number:02}.png")
    return root


def ready(name, *arguments, **options):
    data = dlarch.create_data(name, *arguments, **options)
    data.prepare_data()
    data.setup()
    return data


def everything(data, split):
    loader = {"train": data.train_dataloader, "validation": data.val_dataloader,
              "test": data.test_dataloader}[split]()  # fmt: skip
    parts = list(zip(*loader, strict=True))
    return ImageBatch(*(torch.cat(part) for part in parts if part[0] is not None))


class Seen(L.LightningModule):
    """Keeps what the Trainer gives it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.train_batches, self.val_batches = [], []

    def training_step(self, batch, _):
        self.train_batches.append(batch)
        return self.weight.sum()

    def validation_step(self, batch, _):
        self.val_batches.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(data, tmp_path, epochs=1):
    module = Seen()
    L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        num_sanity_val_steps=0,
    ).fit(module, datamodule=data)  # fmt: skip
    return module


def test_digits_are_scikit_learns_divided_once_and_for_all():
    data = ready("digits", batch_size=100)
    parts = {split: everything(data, split) for split in ("train", "validation", "test")}
    sizes = {split: len(part.label) for split, part in parts.items()}
    assert sizes == {"train": 1439, "validation": 179, "test": 179}
    found = load_digits()
    rows = carved(1797, 179, 179)
    for split in ("validation", "test"):
        assert parts[split].label.tolist() == found.target[rows[split]].tolist()
        pixels = np.stack(data.processor.decode(parts[split].image))[..., 0]
        assert np.array_equal(np.rint(pixels / (255 / 16)), found.images[rows[split]])
    together = np.concatenate(list(rows.values()))
    assert sorted(together) == list(range(1797))


def test_training_images_have_mean_zero_and_deviation_one():
    data = ready("digits")
    image = everything(data, "train").image
    assert image.mean().abs() < 1e-4
    assert image.std() == pytest.approx(1.0, abs=1e-3)
    assert data.spec.image_shape == (1, 8, 8)
    assert (data.spec.in_features, data.spec.num_classes) == (64, 10)


def test_class_folders_are_read_and_named(folder):
    data = ready("image_folder", source=str(folder), batch_size=8)
    assert data.processor.class_names == ["blue", "green", "red"]
    assert data.spec.image_shape == (3, 9, 12)
    for split in ("train", "validation", "test"):
        part = everything(data, split)
        for pixels, label in zip(
            data.processor.decode(part.image), part.label.tolist(), strict=True
        ):
            assert tuple(pixels[5, 5]) == COLOURS[data.processor.class_names[label]]
    assert len(everything(data, "train").label) == 96


def test_folders_of_splits_stay_as_they_are(folder):
    for split in ("train", "test"):
        (folder / split).mkdir()
    for name in COLOURS:
        (folder / "test" / name).mkdir()
        (folder / name).rename(folder / "train" / name)
        for number in (0, 1):
            where = folder / "train" / name / f"{number:02}.png"
            where.rename(folder / "test" / name / f"{number:02}.png")
    data = ready("image_folder", source=str(folder), size=6, validation_size=10)
    sizes = [len(everything(data, split).label) for split in ("train", "validation", "test")]
    assert sizes == [104, 10, 6]
    assert data.spec.image_shape == (3, 6, 6)


def test_with_no_validation_all_images_are_trained_on(folder):
    data = ready("image_folder", source=str(folder), validation_size=0)
    train, validation = everything(data, "train"), everything(data, "validation")
    assert len(train.label) == 108
    assert len(validation.label) == 12


def test_pooled_images_are_those_of_all_splits_for_training_and_for_the_test(folder):
    for split in ("train", "test"):
        (folder / split).mkdir()
    for name in COLOURS:
        (folder / "test" / name).mkdir()
        (folder / name).rename(folder / "train" / name)
        where = folder / "train" / name / "00.png"
        where.rename(folder / "test" / name / "00.png")
    data = ready("image_folder", source=str(folder), validation_size=0, pooled=True)
    train, test = everything(data, "train"), everything(data, "test")
    assert len(train.label) == len(test.label) == 120
    assert train.label.bincount().tolist() == [40, 40, 40]
    assert torch.equal(train.image[train.example.argsort()], test.image)
    apart = ready("image_folder", source=str(folder), validation_size=0)
    assert len(everything(apart, "test").label) == 3
    assert (
        len(everything(ready("image_folder", source=str(folder), pooled=True), "train").label)
        == 108
    )


def test_pooled_images_keep_what_is_known_of_them():
    data = ready("shapes", size=60, pooled=True, validation_size=0)
    apart = ready("shapes", size=60)
    splits = ("train", "validation", "test")
    parts = [everything(apart, split) for split in splits]
    test = everything(data, "test")
    assert len(test.label) == sum(len(part.label) for part in parts)
    assert sorted(map(tuple, test.factors.tolist())) == sorted(
        tuple(row) for part in parts for row in part.factors.tolist()
    )


def test_train_size_takes_some_of_the_images():
    data = ready("digits", train_size=50)
    assert len(everything(data, "train").label) == 50
    assert data.spec.fingerprint != ready("digits").spec.fingerprint


def test_some_classes_are_kept_with_labels_of_their_own():
    whole, some = ready("digits"), ready("digits", classes=["7", 2, "9"])
    assert some.processor.class_names == ["7", "2", "9"]
    assert some.spec.num_classes == 3
    for split in ("train", "validation", "test"):
        mine, all_of_them = everything(some, split), everything(whole, split)
        order = mine.example.argsort()
        # The same images as without the option: none changes its split.
        wanted = [new for new, name in enumerate("729") for old in all_of_them.label.tolist()
                  if old == int(name)]  # fmt: skip
        assert sorted(mine.label.tolist()) == wanted
        pixels = np.stack(some.processor.decode(mine.image[order]))[..., 0]
        number = all_of_them.example.argsort()
        labels = all_of_them.label[number].numpy()
        known = np.stack(whole.processor.decode(all_of_them.image[number]))[..., 0]
        assert np.array_equal(pixels, known[np.isin(labels, [7, 2, 9])])
        names = np.array([7, 2, 9])[mine.label[order].numpy()]
        assert names.tolist() == labels[np.isin(labels, [7, 2, 9])].tolist()


def test_classes_are_put_together():
    whole = everything(ready("digits"), "test")
    parity = ready("digits", classes={"even": [0, 2, 4, 6, 8], "odd": [1, 3, 5, 7, 9]})
    assert parity.processor.class_names == ["even", "odd"]
    mine = everything(parity, "test")
    assert mine.label.tolist() == (whole.label % 2).tolist()
    assert torch.equal(mine.image, whole.image)
    few = ready("digits", classes=[0, 1], train_size=20)
    assert len(everything(few, "train").label) == 20
    prints = {data.spec.fingerprint for data in (ready("digits"), parity, few)}
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("classes", "error", "words"),
    [
        ([1, "seven"], DataError, "There is no class 'seven', only 0, 1"),
        ({"low": [1, 2], "high": [2, 9]}, OptionError, "names '2' twice"),
        ({"low": [1, 2], "high": []}, OptionError, "'high' is made of none"),
        (["1"], OptionError, "at least two"),
    ],
)
def test_classes_that_cannot_be_are_refused(classes, error, words):
    with pytest.raises(error, match=words):
        ready("digits", classes=classes)


def test_the_trainer_gets_normalised_images_and_only_training_ones_are_changed(tmp_path):
    data = dlarch.create_data("digits", crop=1, flip=True, batch_size=64)
    module = fit(data, tmp_path)
    plain = everything(ready("digits", batch_size=64), "validation")
    got = torch.cat([batch.image for batch in module.val_batches])
    assert torch.equal(got, plain.image)
    train = {int(n): image for b in module.train_batches
             for n, image in zip(b.example, b.image, strict=True)}  # fmt: skip
    unchanged = everything(ready("digits", batch_size=64), "train")
    same = sum(
        torch.equal(train[int(number)], image)
        for number, image in zip(unchanged.example, unchanged.image, strict=True)
    )
    assert same < len(train) / 5


def test_pixels_on_the_device_are_the_same_pixels(tmp_path):
    torch.manual_seed(0)
    one = fit(dlarch.create_data("digits", batch_size=64), tmp_path)
    torch.manual_seed(0)
    other = fit(dlarch.create_data("digits", batch_size=64, on_device=True), tmp_path)
    for mine, theirs in zip(
        [*one.train_batches, *one.val_batches], [*other.train_batches, *other.val_batches],
        strict=True,
    ):  # fmt: skip
        assert torch.equal(mine.image, theirs.image)
        assert torch.equal(mine.label, theirs.label)


def test_workers_give_the_same_batches():
    alone = ready("digits", batch_size=256).val_dataloader()
    with_workers = ready("digits", batch_size=256, num_workers=2).val_dataloader()
    for one, other in zip(alone, with_workers, strict=True):
        assert torch.equal(one.image, other.image)


def test_a_data_set_pickles_as_its_paths():
    data = ready("digits")
    dataset = data.dataset("train")
    stored = pickle.dumps(dataset)
    assert len(stored) < 40_000  # rows, not pixels
    index = np.array([3, 1])
    assert torch.equal(pickle.loads(stored)[index].image, dataset[index].image)


def test_a_models_processor_decides_size_and_normalisation(folder):
    first = ready("image_folder", source=str(folder), size=6)
    again = ready("image_folder", source=str(folder), processor=first.processor)
    assert again.spec.image_shape == (3, 6, 6)
    assert torch.equal(everything(again, "test").image, everything(first, "test").image)


def test_other_classes_are_refused_with_both_sides(folder):
    with pytest.raises(MismatchError, match=r"knows the classes 0, 1.* the data have blue, green"):
        ready("image_folder", source=str(folder), processor=ready("digits").processor)


def test_mistakes_are_named(folder, tmp_path):
    for source, words in (
        ("nowhere", "No file or folder"),
        (str(tmp_path / "cache"), "at least two folders"),
        (str(folder / "red" / "00.png"), "is a file"),
    ):
        (tmp_path / "cache").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=words):
            ready("image_folder", source=source)
    (folder / "red" / "00.png").write_text("no image")
    with pytest.raises(DataError, match=r"00\.png is no image"):
        ready("image_folder", source=str(folder))
    with pytest.raises(OptionError, match="smaller validation_size"):
        ready("digits", validation_size=1797)
    with pytest.raises(OptionError, match="batch_size must be at least 1"):
        ready("digits", batch_size=0)
    with pytest.raises(UnknownNameError, match="digits"):
        ready("digit")


def test_a_class_that_train_lacks_is_refused(folder):
    for split in ("train", "test"):
        (folder / split).mkdir()
    for name in COLOURS:
        (folder / name).rename(folder / "train" / name)
    (folder / "test" / "gren").mkdir()
    with pytest.raises(DataError, match="Did you mean 'green'"):
        ready("image_folder", source=str(folder))
