import numpy as np
import pytest
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
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["7 99%\nnot 1", "dog 50%\nnot cat"]
    first, second = axes.images
    assert (second.get_array()[0, 0] == 255 * np.array(to_rgb("red"))).all()
    assert first.get_clim() == (0, 255)
    for image, text in zip(axes.images, axes.texts, strict=True):  # each under its words
        left, right, bottom, top = image.get_extent()
        assert (left + right) / 2 == pytest.approx(text.get_position()[0])
        assert text.get_position()[1] < top < bottom
