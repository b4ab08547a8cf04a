"""Short runs of classifiers on IMDB, which none but a sound reader passes."""

import pytest
import torch

import dlarch
from dlarch.spec import PAD

pytestmark = pytest.mark.quality

SMALL = "--data.train_size 5000 --model.pictures false --seed_everything 1"


@pytest.fixture(autouse=True)
def _imdb(need_stored):
    """Its absence is a skip that says so."""
    need_stored("stanfordnlp/imdb")


@pytest.mark.long
def test_lstm_classifier_in_two_epochs(fit):
    words = f"--config lstm_classifier_imdb {SMALL} --data.max_length 200 --trainer.max_epochs 2"
    words += " --data.batch_size 32"
    assert fit(words).metrics["test/accuracy"] >= 0.72


@pytest.mark.long
def test_text_cnn_in_three_epochs(fit):
    words = f"--config text_cnn_imdb {SMALL} --data.max_length 200 --trainer.max_epochs 3"
    assert fit(words).metrics["test/accuracy"] >= 0.80


@pytest.mark.long
def test_lstm_attention_in_two_epochs_and_no_weight_on_padding(fit):
    words = f"--config lstm_attention_imdb {SMALL} --data.max_length 200 --trainer.max_epochs 2"
    words += " --data.batch_size 32"
    run = fit(words)
    assert run.metrics["test/accuracy"] >= 0.75
    model = dlarch.AutoModel.from_pretrained(run.folder)
    texts = ["A wonderful film .", "What a waste of time , and so long , too . Avoid it ."]
    tokens = model.processor.encode(texts).tokens
    with torch.no_grad():
        weights = model.eval().word_weights(tokens)
    assert weights[tokens == PAD].numel() > 0
    assert weights[tokens == PAD].eq(0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    assert [best[0].name for best in model.classify(texts)] == ["pos", "neg"]
