import colorsys

import numpy as np
import pytest
from matplotlib.path import Path

from dlarch.data.generators.shapes import FACTORS, FIGURES, SIZES, draw_shapes
from dlarch.errors import OptionError


@pytest.fixture(scope="module")
def made():
    return draw_shapes(600, side=64)


def inside(row, side, points):
    """Whether points (n, 2), x to the right and y upwards from the middle, are in the figure."""
    figure, radius, _, _, angle, _ = row
    size, turn = radius * side, 2 * np.pi * angle
    back = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    along, across = back @ points.T
    if FIGURES[int(figure)] == "ellipse":
        return (along / size) ** 2 + (across / (size / 2)) ** 2 <= 1
    corners = {
        "square": [(1, 1), (-1, 1), (-1, -1), (1, -1)] / np.sqrt(2),
        "triangle": np.array([(1, 0), (-0.6, 0.8), (-0.6, -0.8)]),
    }[FIGURES[int(figure)]]
    return Path(size * corners).contains_points(np.column_stack((along, across)))


def test_a_pixel_is_as_bright_as_the_share_of_it_that_is_covered(made):
    """Counted with 16 by 16 points in each pixel."""
    side, fine = 64, 16
    at = (np.arange(side * fine) + 0.5) / fine
    for number in range(0, 60):
        row = made.factors[number].astype(float)
        x, y = np.meshgrid(at - row[2] * side, row[3] * side - at)
        found = inside(row, side, np.column_stack((x.ravel(), y.ravel())))
        share = found.reshape(side, fine, side, fine).mean((1, 3))
        bright = made.pixels[number].max(-1) / 255
        assert np.abs(bright - share).mean() < 0.003
        assert np.abs(bright - share).max() < 0.4  # corners
        sure = np.abs(share - 0.5) > 0.2
        assert ((made.mask[number] > 0) == (share >= 0.5))[sure].all()


def test_the_mask_says_which_figure_and_the_box_surrounds_it(made):
    for mask, box, row in zip(made.mask, made.box, made.factors, strict=True):
        assert set(np.unique(mask)) == {0, 1 + int(row[0])}
        rows, columns = np.nonzero(mask)
        edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert tuple(box) == edges
        middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2
        assert np.abs(middle / 64 - row[2:4]).max() < 0.6 * row[1]


def test_the_hue_is_the_colour(made):
    for pixels, row in zip(made.pixels[:50], made.factors, strict=False):
        brightest = pixels.reshape(-1, 3)[pixels.reshape(-1, 3).max(1).argmax()]
        np.testing.assert_allclose(brightest / 255, colorsys.hsv_to_rgb(row[5], 1, 1), atol=0.01)


def test_factors_are_even_and_independent(made):
    many = draw_shapes(4000, side=16).factors
    assert many.shape[1] == len(FACTORS)
    shares = np.bincount(many[:, 0].astype(int)) / len(many)
    assert np.abs(shares - 1 / len(FIGURES)).max() < 0.03
    for column, (least, most) in zip(many[:, [1, 4, 5]].T, (SIZES, (0, 1), (0, 1)), strict=True):
        quarters = np.quantile(column, [0.25, 0.5, 0.75])
        wanted = least + (most - least) * np.array([0.25, 0.5, 0.75])
        np.testing.assert_allclose(quarters, wanted, atol=0.03 * (most - least))
    between = np.corrcoef(many.T)
    assert np.abs(between - np.eye(len(FACTORS))).max() < 0.06


def test_nothing_is_cut_off(made):
    radius, place = made.factors[:, 1:2], made.factors[:, 2:4]
    assert (place - radius >= 0).all()
    assert (place + radius <= 1).all()


def test_grey_figures_are_white_and_seeds_decide(made):
    grey = draw_shapes(5, side=32, colour=False, seed=3)
    assert grey.pixels.shape == (5, 32, 32, 1)
    assert (grey.pixels.max((1, 2, 3)) == 255).all()
    again = draw_shapes(5, side=32, colour=False, seed=3)
    np.testing.assert_array_equal(grey.pixels, again.pixels)
    assert (draw_shapes(5, side=32, seed=4).factors != grey.factors).any()
    longer = draw_shapes(1100, side=16)
    assert len(longer.pixels) == len(longer.box) == 1100


@pytest.mark.parametrize("options", [{"count": 0}, {"count": 1, "side": 8}])
def test_what_cannot_be_drawn(options):
    with pytest.raises(OptionError, match="at least 1 image of at least 16 pixels"):
        draw_shapes(**options)
