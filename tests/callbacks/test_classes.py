import numpy as np
from matplotlib.colors import to_rgb

from dlarch.callbacks.classes import confusion_figure, mistakes_figure
from dlarch.callbacks.figures import figure_pixels
from dlarch.callbacks.protocols import Mistake

COUNTS = np.array([[8, 2, 0], [0, 5, 0], [1, 0, 0]])


def test_the_matrix_has_a_row_for_each_true_class():
    figure = confusion_figure(COUNTS, ["ant", "bee", "cat"])
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ant", "bee", "cat"]
    assert axes.get_ylabel() == "true"
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares, [[0.8, 0.2, 0], [0, 1, 0], [1, 0, 0]])
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "8", (1, 0): "2", (1, 1): "5", (0, 2): "1"}
    assert "81.25% right" in axes.get_title(loc="left")


def test_a_class_without_examples_is_drawn():
    assert figure_pixels(confusion_figure(np.zeros((2, 2), int), ["a", "b"])).std() > 1


def test_mistakes_show_image_prediction_and_truth():
    grey = np.full((4, 4, 1), 100, np.uint8)
    colour = np.full((4, 4, 3), (255, 0, 0), np.uint8)
    figure = mistakes_figure([Mistake(grey, "1", "7", 0.991), Mistake(colour, "cat", "dog", 0.5)])
    first, second = figure.axes
    assert first.get_title() == "7 99%\nnot 1"
    assert second.get_title() == "dog 50%\nnot cat"
    assert (second.images[0].get_array()[0, 0] == 255 * np.array(to_rgb("red"))).all()
    assert first.images[0].get_clim() == (0, 255)
