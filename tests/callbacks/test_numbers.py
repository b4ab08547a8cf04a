import numpy as np
import torch
from matplotlib.colors import to_rgba

import dlarch
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
    curve = Curve(
        ("x", "y"), "training rows", np.array([0.5]), np.array([2.0]), grid, 2 * grid, np.ones(5)
    )
    (axes,) = curve_figure(curve).axes
    points, band = axes.collections
    np.testing.assert_allclose(points.get_offsets(), [[0.5, 2.0]])
    edges = band.get_paths()[0].vertices
    np.testing.assert_allclose([edges[:, 1].min(), edges[:, 1].max()], [-1.6449, 2 + 1.6449])
    np.testing.assert_allclose(axes.lines[0].get_xydata(), np.column_stack((grid, 2 * grid)))


def test_a_curve_without_a_distribution_has_no_band():
    grid = np.linspace(0, 1, 5)
    (axes,) = curve_figure(Curve(("x", "y"), "training rows", grid, grid, grid, grid)).axes
    assert len(axes.collections) == 1


def test_a_network_shows_what_it_predicts_in_the_units_of_the_data(runs):
    data = dlarch.create_data("curves_1d", size=100)
    model = dlarch.create_model("mlp", data, hidden_sizes=(4,))
    runs.fit(model, datamodule=data)
    assert set(runs.events.Tags()["images"]) == {"health/layers", "predictions", "curve"}
    table, p = data._tables["validation"], data.processor
    curve, predicted = model.curve(), model.predicted()
    np.testing.assert_allclose(predicted.truth, table.targets[:, 0], atol=1e-5)
    np.testing.assert_allclose(curve.inputs, table.features[:, 0], atol=1e-5)
    np.testing.assert_allclose(curve.targets, table.targets[:, 0], atol=1e-5)
    assert curve.rows == "validation rows"
    assert curve.deviation is None
    normalised = torch.tensor((curve.grid - p.mean[0]) / p.std[0], dtype=torch.float32)
    with torch.no_grad():
        wanted = model.eval()(normalised[:, None])[:, 0] * p.target_std[0] + p.target_mean[0]
    np.testing.assert_allclose(curve.mean, wanted, atol=1e-5)


def test_several_inputs_have_predictions_but_no_curve(runs):
    data = dlarch.create_data("table")
    runs.fit(dlarch.create_model("mlp", data, hidden_sizes=(4,)), datamodule=data)
    assert set(runs.events.Tags()["images"]) == {"health/layers", "predictions"}
