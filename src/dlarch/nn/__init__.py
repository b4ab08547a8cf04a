"""Layers and formulas with no opinion about training; imports torch alone."""

from dlarch.nn.recurrent import gru_update, lstm_update, run_packed

__all__ = ["gru_update", "lstm_update", "run_packed"]
