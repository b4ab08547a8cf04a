import numpy as np
import pytest
from PIL import Image

import dlarch
from dlarch.errors import DataError

NAMES = ["5_o_Clock_Shadow", "Smiling", "Young"]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(tmp_path / "cache"))


def face(number):
    """178 by 218 pixels as the originals have: red above, green in the middle, blue below."""
    pixels = np.zeros((218, 178, 3), np.uint8)
    pixels[:20, :, 0], pixels[20:198, :, 1], pixels[198:, :, 2] = 255, 5 * number, 255
    return Image.fromarray(pixels)


@pytest.fixture
def original(tmp_path):
    """24 faces, of which every third smiles; 16 for training, 4 each for validation and test."""
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    attributes, partition = ["24", " ".join(NAMES)], []
    for number in range(24):
        name = f"{number + 1:06}.jpg"
        face(number).save(folder / "img_align_celeba" / name, quality=95)
        attributes.append(f"{name} -1  {1 if number % 3 == 0 else -1} -1")
        partition.append(f"{name} {0 if number < 16 else 1 if number < 20 else 2}")
    (folder / "list_attr_celeba.txt").write_text("\n".join(attributes) + "\n")
    (folder / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    return folder


def ready(source, **options):
    data = dlarch.create_data("celeba", source=str(source), **options)
    data.prepare_data()
    data.setup("fit")
    return data


def pixels(data, split):
    dataset = data.finished(split)
    batch = dataset[np.arange(len(dataset))]
    return np.stack(data.processor.decode(batch.image)), batch.label.tolist()


def test_the_original_folder_is_read_with_its_splits(original):
    data = ready(original, size=16)
    assert data.spec.image_shape == (3, 16, 16)
    assert data.processor.class_names == ["not Smiling", "Smiling"]
    found = [pixels(data, split) for split in ("train", "validation", "test")]
    assert [len(labels) for _, labels in found] == [16, 4, 4]
    images = np.concatenate([part for part, _ in found])
    labels = [label for _, part in found for label in part]
    assert labels == [int(number % 3 == 0) for number in range(24)]
    for number, image in enumerate(images):  # the largest square: neither red nor blue is left
        assert abs(image[..., 1].mean() - 5 * number) < 4
        assert image[..., [0, 2]].mean() < 8


def test_another_attribute_is_another_class(original):
    data = ready(original, attribute="Young")
    assert data.processor.class_names == ["not Young", "Young"]
    assert not any(pixels(data, "train")[1])
    assert data.spec.image_shape == (3, 64, 64)


def test_the_layout_of_the_hub_gives_the_same(original, tmp_path):
    from datasets import Dataset
    from datasets import Image as ImageFeature

    def rows(numbers):
        faces = original / "img_align_celeba"
        values = {"image": [str(faces / f"{n + 1:06}.jpg") for n in numbers]}
        values["celeb_id"] = list(numbers)
        values |= {name: [False] * len(numbers) for name in NAMES}
        values["Smiling"] = [n % 3 == 0 for n in numbers]
        return Dataset.from_dict(values).cast_column("image", ImageFeature())

    hub = tmp_path / "hub"
    hub.mkdir()
    splits = {"train": range(16), "valid": range(16, 20), "test": range(20, 24)}
    for split, numbers in splits.items():
        rows(numbers).to_parquet(str(hub / f"{split}-00000-of-00001.parquet"))
    ours, theirs = ready(original, size=16), ready(hub, size=16)
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(pixels(ours, split)[0], pixels(theirs, split)[0])
        assert pixels(ours, split)[1] == pixels(theirs, split)[1]
    with pytest.raises(DataError, match=r"no attribute 'Smile'\. Did you mean 'Smiling'"):
        ready(hub, attribute="Smile")


def test_any_folder_of_images_will_do(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(40):
        side = 30 + number  # of mixed sizes
        Image.new("RGB" if number % 2 else "L", (side, 2 * side)).save(folder / f"{number}.png")
    data = ready(folder, size=8)
    assert [len(data.dataset(s)) for s in ("train", "validation", "test")] == [32, 4, 4]
    assert data.spec.num_classes == 1


def broken(file, change):
    def spoil(folder):
        path = folder / file
        path.write_text(change(path.read_text()))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "img_align_celeba/000005.jpg").unlink(), "names 1 images that are not in"),
        (lambda f: (f / "list_attr_celeba.txt").unlink(), "list_attr_celeba.txt is missing: the"),
        (lambda f: (f / "list_eval_partition.txt").unlink(), "partition.txt is missing: the"),
        (
            broken("list_attr_celeba.txt", lambda text: text.replace("04.jpg -1", "04.jpg")),
            "line 6: 2 values instead of 3",
        ),
        (
            broken("list_eval_partition.txt", lambda text: text.replace("03.jpg 0", "03.jpg 7")),
            "line 3 is not an image and 0, 1 or 2",
        ),
        (
            broken("list_eval_partition.txt", lambda text: text.replace("000003.jpg 0\n", "")),
            "000003.jpg is in one of them only",
        ),
        (
            lambda f: (f / "img_align_celeba/000002.jpg").write_bytes(b"no image"),
            "000002.jpg",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(original, spoil, said):
    spoil(original)
    with pytest.raises(DataError, match=said):
        ready(original)


def test_an_unknown_attribute_is_answered_with_the_nearest(original):
    with pytest.raises(DataError, match=r"no attribute 'Yuong'\. Did you mean 'Young'"):
        ready(original, attribute="Yuong")
