"""Baselines that predict numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import RidgeCV

from dlarch.baselines.base import Baseline
from dlarch.registry import register_baseline


class Regressor(Baseline):
    """A baseline that predicts numbers."""

    predicts = "numbers"


@register_baseline("ridge")
class Ridge(Regressor):
    """Linear regression with an L2 penalty, whose strength leave-one-out validation chooses."""

    def estimator(self, seed: int) -> Any:  # noqa: ARG002
        """A RidgeCV of scikit-learn, from no penalty to a strong one."""
        return RidgeCV(np.logspace(-4, 4, 33))


@register_baseline("random_forest_regressor")
class RandomForestNumbers(Regressor):
    """Mean of regression trees, each grown on a resample with random features at each split.

    Args:
        trees: how many.
        leaf_size: fewest examples in a leaf.
    """

    def __init__(self, trees: int = 300, leaf_size: int = 3) -> None:
        self.trees, self.leaf_size = trees, leaf_size

    def estimator(self, seed: int) -> Any:
        """A RandomForestRegressor of scikit-learn."""
        return RandomForestRegressor(
            self.trees, min_samples_leaf=self.leaf_size, max_features=1 / 3, random_state=seed
        )
