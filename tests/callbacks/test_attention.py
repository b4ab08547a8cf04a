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


def texts(figure, kind):
    """Texts of a kind: source, target, panel or note."""
    return [text for text in figure.axes[0].texts if text.get_gid() == kind]


def written(figure, kind):
    return [text.get_text() for text in texts(figure, kind)]


def maps(figure):
    """The images of the maps; the last one is the scale."""
    return figure.axes[0].images[:-1]


def weights_in(pixels, figure, panel=0):
    """Read the weights of a picture back from the colours at the middle of its cells."""
    image = maps(figure)[panel]
    height, width = image.get_array().shape
    left, right, bottom, top = image.get_extent()
    middles = [
        (
            left + (right - left) * (column + 0.7) / width,
            top + (bottom - top) * (row + 0.7) / height,
        )
        for row in range(height)
        for column in range(width)
    ]
    places = figure.axes[0].transData.transform(middles)
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
        for kind, tokens in (("source", each.source_tokens), ("target", each.target_tokens)):
            assert written(figure, kind) == [token.replace(" ", "␣") for token in tokens]


def test_produced_tokens_run_down_and_source_tokens_to_the_right(sample):
    figure = attention_figure(sample("abcd", "xy", "xy"))
    figure_pixels(figure)
    left, right, bottom, top = maps(figure)[0].get_extent()
    across = [text.get_position()[0] for text in texts(figure, "source")]
    down = [text.get_position()[1] for text in texts(figure, "target")]
    cell = (right - left) / 4
    assert across == pytest.approx([left + cell * (place + 0.5) for place in range(4)])
    assert down == pytest.approx([top + cell * (place + 0.5) for place in range(2)])
    assert bottom == pytest.approx(top + 2 * cell)
    pixels = figure.axes[0].transData.transform([(left, top), (right, bottom)])
    assert pixels[0, 0] < pixels[1, 0]
    assert pixels[0, 1] > pixels[1, 1]  # pixels are counted from below


def test_scale_is_fixed_and_cells_are_not_blurred(sample):
    faint = sample()
    faint = dataclasses.replace(faint, attention=faint.attention * 0 + 1 / 3)
    (image,) = maps(attention_figure(faint))
    assert image.get_clim() == (0, 1)
    assert image.get_interpolation() == "nearest"


def test_each_head_has_a_panel(sample):
    each = sample("drei", "three", "trhee", maps=(2, 3))
    figure = attention_figure(each)
    assert written(figure, "panel") == [
        f"layer {layer}, head {head}" for layer in (1, 2) for head in (1, 2, 3)
    ]
    pixels = figure_pixels(figure)
    for panel, expected in enumerate(each.attention.flatten(0, 1)):
        weights = weights_in(pixels, figure, panel=panel)
        torch.testing.assert_close(weights.float(), expected, atol=0.01, rtol=0)


def test_layers_without_heads_are_named_alone(sample):
    figure = attention_figure(sample("drei", "three", "trhee", maps=(2, 1)))
    assert written(figure, "panel") == ["layer 1", "layer 2"]


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
    assert written(figure, "source") == ["$x^2$", "a" * 19 + "…"]
    assert not any(text.get_parse_math() for text in figure.axes[0].texts)


def test_eighty_tokens_are_all_labelled_in_a_small_file(sample):
    text = "Mittwoch, der " * 6
    figure = attention_figure(sample(text[:80], text[:80], text[:80]))
    assert len(texts(figure, "source")) == len(texts(figure, "target")) == 80
    left, right, *_ = maps(figure)[0].get_extent()
    assert (right - left) / 80 * figure.dpi >= 16  # pixels per token, letters are 12 high
    file = io.BytesIO()
    Image.fromarray(figure_pixels(figure)).save(file, "PNG")
    assert len(file.getvalue()) < 100_000


def test_longer_sequences_are_cut_and_the_picture_says_so(sample):
    figure = attention_figure(sample("a" * 130, "x", "x"))
    assert len(texts(figure, "source")) == 100
    assert "first 100 of 130 source tokens" in written(figure, "note")[0]


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
