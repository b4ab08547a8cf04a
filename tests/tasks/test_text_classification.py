"""Classifying texts: macro recall, and texts as they are written."""

import pytest
import torch
from sklearn.metrics import recall_score

from dlarch import create_data, create_model
from dlarch.errors import DataError, MismatchError
from dlarch.tasks.metrics import MacroRecall


def test_macro_recall_is_that_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (200,), generator=generator)  # class 4 does not occur
    found = torch.randint(0, 5, (200,), generator=generator)
    metric = MacroRecall(5)
    for part in (slice(0, 70), slice(70, 200)):
        metric.update(found[part], labels[part])
    wanted = recall_score(labels, found, average="macro", labels=[0, 1, 2, 3])
    assert float(metric.compute()) == pytest.approx(wanted)


@pytest.fixture
def model(session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    data = create_data("labelled_text", train_size=50)
    data.prepare_data()
    data.setup()
    torch.manual_seed(0)
    return create_model("rnn_classifier", data)


def test_texts_are_classified_as_they_are_written(model):
    texts = ["three", "one thousand and twelve", "nine"]
    together = model.classify(texts, top=2)
    alone = [model.classify([text], top=2)[0] for text in texts]
    for several, one in zip(together, alone, strict=True):
        assert [prediction.name for prediction in several] == [each.name for each in one]
        assert sum(prediction.probability for prediction in several) == pytest.approx(1)
        assert several[0].probability == pytest.approx(one[0].probability, abs=1e-6)
    tokens = model.processor.encode(texts).tokens
    best = model(tokens).softmax(1).max(1)
    assert [row[0].probability for row in together] == pytest.approx(best.values.tolist())
    names = [model.processor.class_names[label] for label in best.indices]
    assert [row[0].name for row in together] == names


def test_what_cannot_be_classified_is_refused(model):
    with pytest.raises(DataError, match="Text 2 is empty"):
        model.classify(["three", ""])
    model.processor = None
    with pytest.raises(MismatchError, match="no processor to read inputs with"):
        model.classify(["three"])
