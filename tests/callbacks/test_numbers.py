import numpy as np
from matplotlib.colors import to_rgba

from dlarch.callbacks.figures import figure_pixels
from dlarch.callbacks.numbers import MISS, Curve, Predicted, curve_figure, predicted_figure


def test_predictions_stand_beside_the_truth():
    figure = predicted_figure(Predicted("age", np.array([1.0, 3.0]), np.array([2.0, 3.0])))
    (axes,) = figure.axes
    assert axes.get_xlabel() == "true age"
    assert axes.get_title(loc="left") == "rmse 0.7071"
    np.testing.assert_allclose(axes.collections[-1].get_offsets(), [[1, 2], [3, 3]])
    assert figure_pixels(figure).std() > 1


def test_what_lies_outside_its_interval_is_red():
    truth, mean = np.array([0.0, 0.0, 0.0, 0.0]), np.array([1.0, 1.7, -1.7, 3.0])
    figure = predicted_figure(Predicted("y", truth, mean, np.ones(4)))
    (axes,) = figure.axes
    assert "25% of the truth within the 90 % intervals" in axes.get_title(loc="left")
    red = [c for c in axes.collections if (c.get_edgecolor()[0][:3] == to_rgba(MISS)[:3]).all()]
    (bars,) = red
    assert len(bars.get_segments()) == 3
    np.testing.assert_allclose(bars.get_segments()[0][:, 1], [1.7 - 1.6449, 1.7 + 1.6449])


def test_a_curve_has_its_points_and_its_band():
    grid = np.linspace(0, 1, 5)
    curve = Curve(("x", "y"), np.array([0.5]), np.array([2.0]), grid, 2 * grid, np.ones(5))
    (axes,) = curve_figure(curve).axes
    points, band = axes.collections
    np.testing.assert_allclose(points.get_offsets(), [[0.5, 2.0]])
    edges = band.get_paths()[0].vertices
    np.testing.assert_allclose([edges[:, 1].min(), edges[:, 1].max()], [-1.6449, 2 + 1.6449])
    np.testing.assert_allclose(axes.lines[0].get_xydata(), np.column_stack((grid, 2 * grid)))


def test_a_curve_without_a_distribution_has_no_band():
    grid = np.linspace(0, 1, 5)
    (axes,) = curve_figure(Curve(("x", "y"), grid, grid, grid, grid)).axes
    assert len(axes.collections) == 1
