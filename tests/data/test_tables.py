import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes

import dlarch
from dlarch.errors import DataError, MismatchError, OptionError


def ready(name, **options):
    data = dlarch.create_data(name, **options)
    data.prepare_data()
    data.setup()
    return data


def whole(data, split="train"):
    data.batch_size = None
    loader = data.train_dataloader() if split == "train" else data.test_dataloader()
    (batch,) = loader
    return batch


@pytest.mark.parametrize(
    ("gate", "truths"),
    [("and", [0, 0, 0, 1]), ("or", [0, 1, 1, 1]), ("nand", [1, 1, 1, 0]), ("nor", [1, 0, 0, 0]),
     ("xor", [0, 1, 1, 0])],
)  # fmt: skip
def test_gates_have_their_truth_tables(gate, truths):
    batch = whole(ready("logic_gates", gate=gate, normalize=False), "test")
    assert batch.features.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert batch.target.tolist() == truths


def test_xor_of_several_inputs_is_their_parity():
    batch = whole(ready("logic_gates", inputs=5, normalize=False), "test")
    assert torch.equal(batch.target, batch.features.sum(1).long() % 2)


@pytest.mark.parametrize("shape", ["moons", "rings", "spirals", "blobs"])
def test_points_of_a_shape_come_again_from_the_same_seed(shape):
    one, again = (whole(ready("toy_2d", shape=shape)) for _ in range(2))
    other = whole(ready("toy_2d", shape=shape, generator_seed=1))
    order = one.example.argsort(), again.example.argsort()
    assert torch.equal(one.features[order[0]], again.features[order[1]])
    assert not torch.equal(one.features[order[0]], other.features[other.example.argsort()])
    assert one.target.bincount().min() > 350


def test_rings_are_at_their_radii():
    data = ready("toy_2d", shape="rings", classes=3, noise=0.0, normalize=False)
    batch = whole(data)
    radius = batch.features.norm(dim=1)
    torch.testing.assert_close(radius, (batch.target + 1) / 3, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("shape", "count", "noise"), [("ring", 8, 0.01), ("grid", 25, 0.05), ("blobs", 2, 0.1)]
)
def test_mixtures_have_the_centres_and_deviations_of_their_papers(shape, count, noise):
    """Of PacGAN: cos and sin of 45 degrees, and -4 to 4 in steps of 2."""
    data = ready("toy_2d", shape=shape, size=20_000, normalize=False)
    batch = whole(data)
    centres = {
        "ring": [(np.cos(i * np.pi / 4), np.sin(i * np.pi / 4)) for i in range(8)],
        "grid": [(-4 + 2 * i, -4 + 2 * j) for i in range(5) for j in range(5)],
        "blobs": [(1, 0), (-1, 0)],
    }[shape]
    assert data.spec.num_classes == count
    shares = batch.target.bincount() / len(batch.target)
    torch.testing.assert_close(shares, torch.full((count,), 1 / count), atol=0.01, rtol=0)
    for label, centre in enumerate(centres):
        points = batch.features[batch.target == label]
        expected = torch.tensor(centre, dtype=torch.float32)
        torch.testing.assert_close(points.mean(0), expected, atol=noise / 5, rtol=0)
        torch.testing.assert_close(points.std(0), torch.full((2,), noise), atol=0, rtol=0.12)
    torch.testing.assert_close(data.modes.centres, torch.tensor(centres, dtype=torch.float32))
    assert data.modes.deviation.tolist() == pytest.approx([noise] * 2)


def test_modes_are_normalised_as_the_points_are():
    data = ready("toy_2d", shape="grid", size=5000)
    batch = whole(data)
    away = (batch.features - data.modes.centres[batch.target]) / data.modes.deviation
    assert away.std(0).tolist() == pytest.approx([1, 1], abs=0.05)
    assert ready("toy_2d", shape="moons").modes is None
    back = torch.tensor(data.processor.denormalize(data.modes.centres))
    assert back.amax(0).tolist() == pytest.approx([4, 4], abs=1e-5)


def test_curves_are_their_formulas_without_noise():
    batch = whole(ready("curves_1d", curve="sine", noise=0.0, normalize=False))
    wanted = torch.sin(2 * np.pi * batch.features)
    torch.testing.assert_close(batch.target, wanted, atol=1e-5, rtol=0)


def test_diabetes_is_scikit_learns():
    data = ready("table", normalize=False)
    parts = [whole(data), whole(data, "test")]
    assert (data.spec.in_features, data.spec.out_features, data.spec.num_classes) == (10, 1, None)
    assert [len(part.target) for part in parts] == [354, 44]
    found = load_diabetes(scaled=False)
    known = {tuple(np.float32(row)): np.float32(y) for row, y in zip(
        found.data, found.target, strict=True)}  # fmt: skip
    for part in parts:
        for row, y in zip(part.features.tolist(), part.target[:, 0].tolist(), strict=True):
            assert known[tuple(np.float32(row))] == np.float32(y)


def test_columns_are_normalised_over_the_training_rows():
    batch = whole(ready("table"))
    torch.testing.assert_close(batch.features.mean(0), torch.zeros(10), atol=1e-5, rtol=0)
    std = batch.features.std(0, correction=0)
    torch.testing.assert_close(std, torch.ones(10), atol=1e-5, rtol=0)
    assert batch.target.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "irises.csv"
    rows = [f"{n / 10},{-n},{'big' if n > 20 else 'small'},{n % 3}" for n in range(40)]
    path.write_text("length,width,kind,group\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_file_gives_classes_or_numbers(csv):
    data = ready("table", source=str(csv), target="kind")
    assert data.processor.class_names == ["big", "small"]
    assert data.processor.columns == ["length", "width", "group"]
    assert data.spec.num_classes == 2
    numbers = ready("table", source=str(csv), columns=["length"], target="width")
    assert (numbers.spec.in_features, numbers.spec.out_features) == (1, 1)
    groups = ready("table", source=str(csv), columns=["length"], classify=True)
    assert groups.processor.class_names == ["0", "1", "2"]


def test_mistakes_are_named(csv, tmp_path):
    for options, words in (
        ({"target": "kinds"}, "has no column 'kinds'"),
        ({"target": "width"}, r"line 2: 'small' in column 'kind' is no number"),
        ({"target": "width", "columns": ["width"]}, "must not be among"),
        ({"source": "nowhere.csv"}, "No file or folder"),
    ):
        with pytest.raises(DataError, match=words):
            ready("table", **{"source": str(csv)} | options)
    short = tmp_path / "short.csv"
    short.write_text("a,b\n1,2\n3\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 3"):
        ready("table", source=str(short))
    for name, options, words in (
        ("logic_gates", {"gate": "xr"}, "Did you mean 'xor'"),
        ("toy_2d", {"shape": "moon"}, "Did you mean 'moons'"),
        ("toy_2d", {"classes": 3}, "two moons"),
        ("toy_2d", {"shape": "grid", "classes": 8}, "4, 9, 16"),
        ("curves_1d", {"curve": "sin"}, "Did you mean 'sine'"),
        ("table", {"batch_size": 0}, "batch_size must be at least 1"),
    ):
        with pytest.raises(OptionError, match=words):
            ready(name, **options)


def test_a_models_processor_reads_new_rows_and_refuses_other_columns(csv):
    first = ready("table", source=str(csv), target="kind")
    again = ready("table", source=str(csv), target="kind", processor=first.processor)
    assert torch.equal(whole(again, "test").features, whole(first, "test").features)
    with pytest.raises(MismatchError, match="trained on columns"):
        ready("table", processor=first.processor)
