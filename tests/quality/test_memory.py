"""Recurrent networks that remember: generated data, half a minute of one core each."""

import pytest

pytestmark = [pytest.mark.quality, pytest.mark.timeout(1800)]


def test_a_gru_adds_two_numbers_of_25(fit):
    """Always saying 1 has 1/6; the simple cell has not left it after as many steps."""
    words = "--config rnn_regressor_adding --data.length 25 --trainer.max_epochs 4"
    words += " --model.pictures false --seed_everything 1"
    assert fit(words).metrics["test/loss"] < 0.01


def test_a_gru_recalls_the_first_of_ten_letters(fit):
    words = "--config rnn_classifier_recall --data.length 10 --trainer.max_epochs 3"
    assert (
        fit(words + " --model.pictures false --seed_everything 1").metrics["test/accuracy"] > 0.99
    )


def test_a_wave_runs_freely_for_200_steps(fit):
    """Always saying 0 has 1/2; 0.041 measured."""
    words = "--config rnn_regressor --data.min_period 25 --data.max_period 25"
    words += " --data.train_size 2000 --data.eval_size 100 --trainer.max_epochs 5"
    words += " --model.pictures false --seed_everything 1"
    assert fit(words).metrics["test/free_mse"] < 0.25
