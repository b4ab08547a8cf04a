import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.tensorboard import SummaryWriter

from dlarch.analysis.maps import Table, draw_maps, maps_figure, read_table
from dlarch.callbacks.figures import figure_pixels
from dlarch.errors import DataError, OptionError


@pytest.fixture(scope="module")
def digits():
    pixels, labels = load_digits(return_X_y=True)
    return pixels[:400], [str(label) for label in labels[:400]]


@pytest.fixture(scope="module")
def maps(digits):
    return {each.method: each for each in draw_maps(digits[0])}


def nearest_agree(points, labels):
    """Share of points whose nearest neighbour has the same label."""
    far = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(far, np.inf)
    labels = np.array(labels)
    return (labels[far.argmin(1)] == labels).mean()


def trusted(rows, points, k):
    """The definition of trustworthiness, one row after another."""
    count, total = len(rows), 0
    for i in range(count):
        far = np.linalg.norm(rows - rows[i], axis=1)
        rank = {j: place for place, j in enumerate(np.argsort(far, kind="stable"))}
        near = np.argsort(np.linalg.norm(points - points[i], axis=1), kind="stable")
        total += sum(max(0, rank[j] - k) for j in near[1 : k + 1])
    return 1 - 2 / (count * k * (2 * count - 3 * k - 1)) * total


def test_principal_components_are_those_of_the_singular_values(digits, maps):
    centred = digits[0] - digits[0].mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    wanted = (left * sizes)[:, :2]
    np.testing.assert_allclose(np.abs(maps["pca"].points), np.abs(wanted), atol=1e-6)


def test_tsne_keeps_neighbours_together(digits, maps):
    assert nearest_agree(maps["tsne"].points, digits[1]) > 0.9
    assert maps["tsne"].trustworthiness > 0.95 > maps["pca"].trustworthiness


def test_trustworthiness_is_what_its_definition_says(digits, maps):
    for each in maps.values():
        assert each.trustworthiness == pytest.approx(trusted(digits[0], each.points, 12), abs=2e-3)


def test_the_same_seed_draws_the_same_map(digits):
    first, second = (draw_maps(digits[0][:60], seed=3)[1].points for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_with_cosine_length_does_not_matter(digits):
    lengths = np.random.default_rng(0).uniform(0.1, 10, (60, 1))
    plain, stretched = (
        draw_maps(rows, metric="cosine")[0] for rows in (digits[0][:60], digits[0][:60] * lengths)
    )
    np.testing.assert_allclose(np.abs(plain.points), np.abs(stretched.points), atol=1e-6)
    assert plain.trustworthiness == pytest.approx(stretched.trustworthiness)


def test_a_table_of_the_projector_is_read_back(tmp_path):
    rows = torch.randn(3, 4)
    writer = SummaryWriter(str(tmp_path))
    known = [["neg", '"', "a b"], ["pos", "neg", "é"], ["pos", "pos", ""]]
    writer.add_embedding(rows, known, metadata_header=["class", "predicted", "text"], tag="many")
    writer.add_embedding(rows, ["the", '"', "␣"], tag="one")
    writer.add_embedding(rows, tag="none")
    writer.close()
    many, one, none = (read_table(tmp_path / "00000" / name) for name in ("many", "one", "none"))
    for table in (many, one, none):
        np.testing.assert_allclose(table.rows, rows.numpy(), rtol=1e-5)
    assert many.columns["class"] == ["neg", "pos", "pos"]
    assert many.columns["text"] == ["a b", "é", ""]
    assert one.columns == {"token": ["the", '"', "␣"]}
    assert none.columns == {}


def test_a_figure_shows_classes_in_colours_and_tokens_by_name(digits, maps):
    both = list(maps.values())
    coloured = maps_figure(both, Table(digits[0], {"class": digits[1]}), "digits")
    legend = coloured.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [str(n) for n in range(10)]
    named = maps_figure(both, Table(digits[0], {"token": [f"$w{i}" for i in range(400)]}), "words")
    texts = [text.get_text() for text in named.axes[1].texts]
    assert len(texts) == 150
    assert texts[0] == r"\$w0"
    for figure in (coloured, named):
        assert figure_pixels(figure).std() > 5


@pytest.mark.parametrize(
    ("rows", "neighbours", "error", "said"),
    [
        (np.zeros((30, 1)), 12, DataError, "at least two"),
        (np.full((30, 3), np.nan), 12, DataError, "finite"),
        (np.eye(20), 12, OptionError, "12 neighbours are too many for 20 rows"),
        (np.eye(20), 0, OptionError, "at least 1"),
    ],
)
def test_rows_that_give_no_map(rows, neighbours, error, said):
    with pytest.raises(error, match=said):
        draw_maps(rows, neighbours=neighbours)


def test_files_that_are_no_table(tmp_path):
    with pytest.raises(DataError, match=r"tensors.tsv cannot be read: No such file"):
        read_table(tmp_path)
    (tmp_path / "tensors.tsv").write_text("1\t2\n3\n")
    with pytest.raises(DataError, match="equally many"):
        read_table(tmp_path)
    (tmp_path / "tensors.tsv").write_text("1\t2\n3\t4\n")
    (tmp_path / "metadata.tsv").write_text("a\nb\nc\n")
    with pytest.raises(DataError, match="does not say the same of each of the 2 rows"):
        read_table(tmp_path)
