"""Texts coloured by weight: what is drawn where, in which colour, and what reaches the events."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dlarch
from dlarch.callbacks.attention import COLOURS
from dlarch.callbacks.figures import figure_pixels
from dlarch.callbacks.protocols import WeighedText
from dlarch.callbacks.weighed_texts import MAX_PIECES, ROW, weighed_figure
from dlarch.errors import DataError, MismatchError


def sample(pieces, weights, predicted="pos"):
    return WeighedText(pieces, weights, "pos", predicted, 0.87)


def written(figure, kind):
    return [text.get_text() for text in figure.axes[0].texts if text.get_gid() == kind]


def test_each_piece_has_the_colour_of_its_weight():
    weights = [0.1, 0.8, 0.0, 0.1]
    figure = weighed_figure(sample(["a ", "really ", "good ", "film "], weights))
    assert written(figure, "piece") == ["a", "really", "good", "film"]
    (boxes,) = figure.axes[0].collections
    figure_pixels(figure)
    wanted = [COLOURS(weight / 0.8) for weight in weights]
    np.testing.assert_allclose(boxes.get_facecolors(), wanted)
    (heading,) = written(figure, "heading")
    assert heading == "✓ pos (0.87) · darkest: 0.800"
    (wrong,) = written(weighed_figure(sample(["a"], [1.0], "neg")), "heading")
    assert wrong == "✗ neg (0.87), is pos · darkest: 1.000"


def test_equal_weights_are_pale():
    figure = weighed_figure(sample(list("abcdefghij"), [0.1] * 10))
    assert written(figure, "heading")[0].endswith("darkest: 0.300")
    (boxes,) = figure.axes[0].collections
    figure_pixels(figure)
    np.testing.assert_allclose(boxes.get_facecolors(), [COLOURS(1 / 3)] * 10)


def test_long_texts_are_broken_into_rows_and_cut():
    words = [f"word{n} " for n in range(MAX_PIECES + 3)]
    figure = weighed_figure(sample(words, [1 / len(words)] * len(words)))
    texts = [text for text in figure.axes[0].texts if text.get_gid() == "piece"]
    assert len(texts) == MAX_PIECES
    assert written(figure, "heading")[0].endswith("3 pieces more")
    rows = {}
    for text in texts:
        rows.setdefault(text.get_position()[1], []).append(text.get_text())
    lines = [" ".join(row) for row in rows.values()]
    assert max(map(len, lines)) <= ROW
    assert " ".join(lines) == " ".join(word.strip() for word in words[:MAX_PIECES])


def test_weights_and_pieces_must_be_as_many():
    with pytest.raises(ValueError, match="each of 2 pieces"):
        weighed_figure(sample(["a", "b"], [1.0]))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, session_cache):
    folder = tmp_path_factory.mktemp("weighed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLARCH_RUNS", str(folder / "runs"))
        patch.setenv("DLARCH_CACHE", str(session_cache))
        data = dlarch.create_data("labelled_text", train_size=64)
        model = dlarch.create_model("lstm_attention", data, hidden_size=8)
        options = {"enable_progress_bar": False, "accelerator": "cpu", "limit_test_batches": 1}
        run = dlarch.fit(model, data, max_epochs=2, **options).run
    return model, data, run


def test_the_same_texts_of_each_class_are_drawn_at_each_validation(fitted):
    model, data, run = fitted
    events = EventAccumulator(str(run.folder / "logs"), size_guidance={"images": 0}).Reload()
    tags = [tag for tag in events.Tags()["images"] if tag.startswith("attention/")]
    assert tags == [f"attention/{n}" for n in range(4)]
    assert [len(events.Images(tag)) for tag in tags] == [2] * 4
    samples = model.weighed_texts(4)
    assert [each.label for each in samples] == ["even", "odd", "even", "odd"]
    stored = data.dataset("validation")
    for name, places in (("even", (0, 2)), ("odd", (1, 3))):
        rows = np.flatnonzero(stored.labels == model.class_names().index(name))[:2]
        texts = [stored.texts[row] for row in rows]
        assert ["".join(samples[p].pieces) for p in places] == [f"<bos>{t}<eos>" for t in texts]
    last = Image.open(io.BytesIO(events.Images("attention/0")[-1].encoded_image_string))
    assert np.array_equal(np.asarray(last), figure_pixels(weighed_figure(samples[0])))


def test_weights_of_raw_texts_are_those_of_the_network(fitted):
    model, _, _ = fitted
    texts = ["seven", "one thousand and two"]
    found = model.weigh(texts)
    batch = model.processor.encode(texts)
    weights = model.eval().word_weights(batch.tokens)
    for text, words, row in zip(texts, found, weights, strict=True):
        assert [word for word, _ in words] == ["<bos>", *text, "<eos>"]
        given = torch.tensor([weight for _, weight in words])
        torch.testing.assert_close(given, row[: len(words)].detach())
    with pytest.raises(DataError, match="empty"):
        model.weigh([" "])
    plain = dlarch.create_model("rnn_classifier", vocab_size=9, num_classes=2)
    with pytest.raises(MismatchError, match="does not weigh words"):
        plain.weigh(["seven"])


@pytest.mark.parametrize(
    ("keep", "wanted"), [("first", "one "), ("last", "hree"), ("both", "onee")]
)
def test_pieces_are_cut_as_the_ids_are(keep, wanted, session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    data = dlarch.create_data("labelled_text", max_length=4, keep=keep, train_size=50)
    data.prepare_data()
    data.setup()
    pieces = data.processor.pieces("one two three")
    assert "".join(pieces) == f"<bos>{wanted}<eos>"
    (ids,) = data.processor.encode(["one two three"]).tokens.tolist()
    assert [data.processor.tokens.id_to_token(index) for index in ids] == pieces
