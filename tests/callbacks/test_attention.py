import dataclasses
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from dlarch.callbacks.attention import AttentionMaps, attention_figure
from dlarch.callbacks.figures import figure_pixels
from dlarch.callbacks.protocols import TranslationSample


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def weights_in(pixels, figure, panel=0):
    """Read the weights of a picture back from the colours at the middle of its cells."""
    (image,) = figure.axes[panel].images
    height, width = image.get_array().shape
    middles = [(column + 0.2, row + 0.2) for row in range(height) for column in range(width)]
    places = figure.axes[panel].transData.transform(middles)
    found = np.stack([pixels[pixels.shape[0] - 1 - int(y), int(x)] for x, y in places])
    scale = np.linspace(0, 1, 1025)
    colours = image.cmap(scale)[:, :3] * 255
    nearest = ((found[:, None] - colours[None]) ** 2).sum(-1).argmin(1)
    return torch.tensor(scale[nearest]).reshape(height, width)


def test_pictures_in_the_event_file_hold_the_weights(runs, translator, sample):
    samples = [sample("zwei junge", "two boys", "two boys"), sample("drei", "three", "trhee")]
    runs.fit(translator(samples), AttentionMaps(count=2))
    events = runs.events
    assert events.Tags()["images"] == ["attention/0", "attention/1"]
    for index, each in enumerate(samples):
        pictures = events.Images(f"attention/{index}")
        assert [picture.step for picture in pictures] == [4, 8]
        pixels = np.asarray(Image.open(io.BytesIO(pictures[0].encoded_image_string)))
        figure = attention_figure(each)
        weights = weights_in(pixels, figure)
        assert weights.std() > 0.05
        torch.testing.assert_close(weights.float(), each.attention, atol=0.01, rtol=0)
        torch.testing.assert_close(
            weights.sum(1), torch.ones(len(weights)).double(), atol=0.05, rtol=0
        )
        axes = figure.axes[0]
        assert ticks(axes.xaxis) == [token.replace(" ", "␣") for token in each.source_tokens]
        assert ticks(axes.yaxis) == [token.replace(" ", "␣") for token in each.target_tokens]


def test_produced_tokens_run_down_and_source_tokens_to_the_right(sample):
    axes = attention_figure(sample("abcd", "xy", "xy")).axes[0]
    (left, first), (right, last) = axes.transData.transform([(0, 0), (3, 1)])
    assert left < right
    assert first > last  # pixels are counted from below
    assert list(axes.get_xticks()) == [0, 1, 2, 3]
    assert list(axes.get_yticks()) == [0, 1]


def test_scale_is_fixed_and_cells_are_not_blurred(sample):
    faint = sample()
    faint = dataclasses.replace(faint, attention=faint.attention * 0 + 1 / 3)
    (image,) = attention_figure(faint).axes[0].images
    assert image.get_clim() == (0, 1)
    assert image.get_interpolation() == "nearest"


def test_each_head_has_a_panel(sample):
    each = sample("drei", "three", "trhee", maps=(2, 3))
    figure = attention_figure(each)
    panels = [axes for axes in figure.axes if axes.images]
    names = [axes.get_xlabel() for axes in panels]
    assert names == [f"layer {layer}, head {head}" for layer in (1, 2) for head in (1, 2, 3)]
    pixels = figure_pixels(figure)
    for panel, expected in enumerate(each.attention.flatten(0, 1)):
        weights = weights_in(pixels, figure, panel=panel)
        torch.testing.assert_close(weights.float(), expected, atol=0.01, rtol=0)


def test_layers_without_heads_are_named_alone(sample):
    figure = attention_figure(sample("drei", "three", "trhee", maps=(2, 1)))
    names = [axes.get_xlabel() for axes in figure.axes if axes.images]
    assert names == ["layer 1", "layer 2"]


@pytest.mark.parametrize("shape", [(4, 3), (3,), (2, 3, 4), (1, 2, 4, 3), (0, 4)])
def test_attention_that_does_not_fit_the_tokens_is_refused(shape):
    bad = TranslationSample("", "", "", True, list("abcd"), list("xyz"), torch.ones(shape))
    with pytest.raises(ValueError, match=r"must be \(T, S\) or \(layers, heads, T, S\).*\(3, 4\)"):
        attention_figure(bad)


def test_samples_without_attention_are_left_out(runs, translator, sample):
    none = dataclasses.replace(sample(), attention=None)
    runs.fit(translator([none, sample()]), AttentionMaps())
    assert runs.events.Tags()["images"] == ["attention/1"]


def test_labels_are_shown_literally(sample):
    each = sample("ab", "x", "x")
    each = dataclasses.replace(each, source_tokens=["$x^2$", "a" * 30], reference="$y$")
    figure = attention_figure(each)
    figure_pixels(figure)
    assert ticks(figure.axes[0].xaxis) == ["$x^2$", "a" * 19 + "…"]
    assert not any(label.get_parse_math() for label in figure.axes[0].get_xticklabels())


def test_eighty_tokens_are_all_labelled_in_a_small_file(sample):
    text = "Mittwoch, der " * 6
    figure = attention_figure(sample(text[:80], text[:80], text[:80]))
    assert len(ticks(figure.axes[0].xaxis)) == len(ticks(figure.axes[0].yaxis)) == 80
    (a, _), (b, _) = figure.axes[0].transData.transform([(0, 0), (1, 0)])
    assert b - a >= 16  # pixels per token, letters are 12 high
    file = io.BytesIO()
    Image.fromarray(figure_pixels(figure)).save(file, "PNG")
    assert len(file.getvalue()) < 100_000


def test_longer_sequences_are_cut_and_the_picture_says_so(sample):
    figure = attention_figure(sample("a" * 130, "x", "x"))
    assert len(ticks(figure.axes[0].xaxis)) == 100
    assert any("first 100 of 130 source tokens" in text.get_text() for text in figure.texts)


def test_drawing_leaves_training_and_pyplot_alone(runs, translator, sample):
    shown, alone = translator([sample()]), translator([sample()])
    alone.load_state_dict(shown.state_dict())
    before = plt.get_fignums()
    runs.fit(shown, AttentionMaps())
    runs.fit(alone)
    assert plt.get_fignums() == before
    assert all(map(torch.equal, shown.parameters(), alone.parameters()))


def test_nothing_is_drawn_without_tensorboard(runs, translator, sample, tmp_path):
    model = translator([sample()])
    runs.fit(model, AttentionMaps(), logger=CSVLogger(tmp_path))
    runs.fit(model, AttentionMaps(), logger=False)
    assert model.asked == []
