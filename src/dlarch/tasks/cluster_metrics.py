"""How clusters that nobody has named agree with classes, and how sure codes are of them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from dlarch.nn import membership_kl, sharpened


def matched(clusters: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Share of examples whose cluster stands for their class, in the best pairing of the two.

    Each class has one cluster at most, each cluster one class (H. W. Kuhn 1955: the Hungarian
    method).
    """
    counts = np.zeros((clusters.max() + 1, labels.max() + 1), dtype=np.int64)
    np.add.at(counts, (clusters, labels), 1)
    pairs = linear_sum_assignment(counts, maximize=True)
    return float(counts[pairs].sum() / len(labels))


class ClusterAgreement(Metric):
    """Agreement of clusters with classes that they were found without; 0 where none are known.

    Args:
        measure: "accuracy" of the best pairing, "nmi" (normalised mutual information, by the
            arithmetic mean of the entropies) or "ari" (Rand index, adjusted for chance).
    """

    full_state_update = False
    clusters: list[Tensor]
    labels: list[Tensor]

    def __init__(self, measure: str) -> None:
        super().__init__()
        self.measure = measure
        self.add_state("clusters", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, clusters: Tensor, labels: Tensor) -> None:
        """Add clusters and classes, each (B,); -1 is no class."""
        known = labels >= 0
        self.clusters.append(clusters[known])
        self.labels.append(labels[known])

    def compute(self) -> Tensor:
        """The agreement, 1 if clusters are classes."""
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        clusters, labels = (
            dim_zero_cat(each).cpu().numpy() if len(each) else np.zeros(0, np.int64)
            for each in (self.clusters, self.labels)
        )
        measures = {
            "accuracy": matched,
            "nmi": lambda found, known: normalized_mutual_info_score(known, found),
            "ari": lambda found, known: adjusted_rand_score(known, found),
        }
        value = measures[self.measure](clusters, labels) if len(labels) else 0.0
        return torch.tensor(value, dtype=torch.float32, device=self.device)


class ClusterLoss(Metric):
    """Mean loss of examples, of what is lost of them and of how far clusters are from sure.

    The divergence of memberships from what they should be is that of the whole split, since what
    they should be depends on how large the clusters are.

    Args:
        lost: weight of what is lost of an example.
        divergence: weight of the divergence.
    """

    full_state_update = False
    total: Tensor
    memberships: list[Tensor]
    count: Tensor

    def __init__(self, lost: float, divergence: float) -> None:
        super().__init__()
        self.weights = (lost, divergence)
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("memberships", [], dist_reduce_fx="cat")

    def update(self, lost: Tensor, memberships: Tensor) -> None:
        """Add what is lost of examples, (B,), and their memberships, (B, K)."""
        self.total = self.total + lost.sum()
        self.count = self.count + len(lost)
        if self.weights[1]:
            self.memberships.append(memberships)

    def compute(self) -> Tensor:
        """The loss; NaN when nothing was counted."""
        lost, divergence = self.weights
        value = lost * self.total / self.count if lost else torch.zeros_like(self.total)
        if divergence and len(self.memberships):
            q = dim_zero_cat(self.memberships).float()
            value = value + divergence * membership_kl(sharpened(q, q.sum(0)), q).mean()
        return value
