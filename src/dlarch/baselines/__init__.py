"""Baselines: methods of scikit-learn on the same data, by name, to measure networks against."""

from dlarch.baselines.base import Baseline, Scores, arrays, score

__all__ = ["Baseline", "Scores", "arrays", "score"]
