"""Sentences as vectors: what comes back from a code, and whether the code is used at all."""

import pytest

from dlarch import create_data
from dlarch.nn.kneser_ney import KneserNey
from dlarch.sweep.plan import read_plan

pytestmark = [pytest.mark.quality, pytest.mark.timeout(3600)]

CAPTIONS = "bentrevett/multi30k"


@pytest.mark.long
def test_numbers_that_were_not_seen_come_back_from_their_codes(fit):
    found = fit("--config lstm_autoencoder").metrics
    assert found["test/exact_match"] >= 0.95
    assert found["test/greedy_accuracy"] >= 0.99


@pytest.mark.long
def test_a_convolution_may_read_first(fit):
    found = fit("--config lstm_autoencoder --model.encoder cnn_lstm").metrics
    assert found["test/exact_match"] >= 0.95


def unigram_nats(size):
    """-log p of a caption of the test by the frequencies of single words, in nats."""
    data = create_data(
        "labelled_text", source=CAPTIONS, text_column="en", label_column="none", train_size=size
    )
    data.prepare_data()
    data.setup()
    model = KneserNey(1, data.spec.vocab_size)
    for batch in data.in_order("train"):
        model.update(batch.tokens)
    model.finish()
    total = count = 0.0
    for batch in data.in_order("test"):
        total -= float(model.score(batch.tokens).double().sum())
        count += len(batch.tokens)
    return total / count


@pytest.mark.long
def test_free_nats_keep_the_code_which_collapses_without(fit, need_stored):
    """5,000 captions, as in the sweep of the recipes."""
    need_stored(CAPTIONS)
    plan = read_plan("sentence_vae")
    found = {}
    for name in ("none of them", "free nats"):
        (setting,) = (setting for setting in plan.settings if setting.name == name)
        words = plan.words(setting.options, seed=1, name="run")
        found[name] = fit(" ".join(words[1:])).metrics
    assert found["none of them"]["test/kl"] == pytest.approx(0, abs=0.1)
    assert found["none of them"]["test/active_units"] == 0
    assert found["free nats"]["test/kl"] > 1
    assert found["free nats"]["test/active_units"] >= 5
    bar = unigram_nats(5000)
    for metrics in found.values():
        assert metrics["test/nll_is100"] < bar
        assert metrics["test/nll_is100"] < metrics["test/loss"]
