"""Baselines that tell classes."""

from __future__ import annotations

from typing import Any, ClassVar

from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import BernoulliNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

from dlarch.baselines.base import Baseline
from dlarch.batches import ImageBatch, TableBatch, TextBatch
from dlarch.registry import register_baseline


class Classifier(Baseline):
    """A baseline that tells classes, of images, rows or texts."""

    batch_type: ClassVar[tuple[type, ...]] = (ImageBatch, TableBatch, TextBatch)
    predicts = "classes"


@register_baseline("logistic_regression")
class LogisticRegressionBaseline(Classifier):
    """Multinomial logistic regression with an L2 penalty, by L-BFGS.

    Args:
        C: inverse strength of the penalty.
    """

    def __init__(self, C: float = 0.1) -> None:  # noqa: N803 (as scikit-learn has it)
        self.C = C

    def estimator(self, seed: int) -> Any:  # noqa: ARG002
        """A LogisticRegression of scikit-learn."""
        return LogisticRegression(C=self.C, max_iter=1000, tol=1e-3)


@register_baseline("svc")
class SupportVectors(Classifier):
    """Support vector machine with a Gaussian kernel, one for each pair of classes.

    Args:
        C: how much a violated margin costs.
    """

    batch_type = (ImageBatch, TableBatch)  # with as many features as texts have, a line is enough

    def __init__(self, C: float = 10.0) -> None:  # noqa: N803 (as scikit-learn has it)
        self.C = C

    def estimator(self, seed: int) -> Any:  # noqa: ARG002
        """An SVC of scikit-learn."""
        return SVC(C=self.C, cache_size=1000)


@register_baseline("linear_svc")
class LinearSupportVectors(Classifier):
    """Linear support vector machine, one class against the rest.

    Args:
        C: how much a violated margin costs.
    """

    batch_type = (TextBatch,)

    def __init__(self, C: float = 0.1) -> None:  # noqa: N803 (as scikit-learn has it)
        self.C = C

    def estimator(self, seed: int) -> Any:
        """A LinearSVC of scikit-learn."""
        return LinearSVC(C=self.C, random_state=seed)


@register_baseline("sgd")
class LinearSGD(Classifier):
    """Linear support vector machine by stochastic gradient descent, one class against the rest.

    Args:
        alpha: strength of the L2 penalty.
    """

    def __init__(self, alpha: float = 1e-4) -> None:
        self.alpha = alpha

    def estimator(self, seed: int) -> Any:
        """An SGDClassifier of scikit-learn."""
        return SGDClassifier(alpha=self.alpha, random_state=seed)


@register_baseline("naive_bayes")
class NaiveBayes(Classifier):
    """Naive Bayes on whether each feature is above its mean, as if features were independent."""

    def estimator(self, seed: int) -> Any:  # noqa: ARG002
        """A BernoulliNB of scikit-learn."""
        return BernoulliNB(binarize=0.0)


@register_baseline("random_forest")
class RandomForest(Classifier):
    """Vote of decision trees, each grown on a resample with random features at each split.

    Args:
        trees: how many.
    """

    def __init__(self, trees: int = 200) -> None:
        self.trees = trees

    def estimator(self, seed: int) -> Any:
        """A RandomForestClassifier of scikit-learn."""
        return RandomForestClassifier(self.trees, random_state=seed)


@register_baseline("pca_knn")
class PCANeighbours(Classifier):
    """Vote of the nearest training examples, in the space of the first principal components.

    Args:
        components: as many as there are features, at most.
        neighbours: that vote.
    """

    batch_type = (ImageBatch, TableBatch)

    def __init__(self, components: int = 50, neighbours: int = 3) -> None:
        self.components, self.neighbours = components, neighbours

    def estimator(self, seed: int) -> Any:
        """A pipeline of scikit-learn's PCA and KNeighborsClassifier."""
        return make_pipeline(
            FittingPCA(self.components, random_state=seed), KNeighborsClassifier(self.neighbours)
        )


class FittingPCA(PCA):  # type: ignore[misc]
    """PCA of `components`, or of fewer where there are fewer examples or features."""

    def __init__(self, components: int = 50, random_state: int | None = None) -> None:
        super().__init__(random_state=random_state)
        self.components = components

    def fit_transform(self, X: Any, y: Any = None) -> Any:  # noqa: N803
        """Fit and transform, see PCA."""
        self.n_components = min(self.components, *X.shape)
        return super().fit_transform(X, y)
