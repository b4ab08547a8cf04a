"""Language models of characters on tiny Shakespeare, in sizes for a CPU."""

import pytest

from dlarch import create_data

pytestmark = [pytest.mark.quality, pytest.mark.long, pytest.mark.timeout(3600)]

SHAKESPEARE = "text/tinyshakespeare"
TRIGRAM = 2.042
"""Nats per character of the Kneser-Ney trigram."""


@pytest.fixture(autouse=True)
def _stored(need_stored):
    need_stored(SHAKESPEARE)


def test_the_characters_are_those_of_others():
    data = create_data("text_corpus", source=SHAKESPEARE, validation_share=0.1, test_share=0.0)
    data.prepare_data()
    data.setup("fit")
    assert len(data.dataset("train")) == 1_003_854
    assert len(data.dataset("validation")) == 111_540
    assert data.spec.vocab_size == 65 + 4


def test_gpt_in_the_size_of_nanogpt_for_a_cpu(fit):
    metrics = fit("--config gpt_shakespeare").metrics
    assert metrics["val/loss"] <= 1.75


def test_a_state_that_is_carried_on_is_worth_something(fit):
    words = "--config char_rnn_shakespeare --model.hidden_size 256 --model.dropout 0"
    carried = fit(words).metrics["val/loss"]
    reset = fit(f"{words} --data.reading windows").metrics["val/loss"]
    assert carried <= 1.95 < TRIGRAM
    assert carried < reset - 0.01
