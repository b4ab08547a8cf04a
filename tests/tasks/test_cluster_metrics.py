"""Agreement of clusters with classes: the best pairing by brute force, and scikit-learn."""

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from dlarch.nn import membership_kl, sharpened
from dlarch.tasks.cluster_metrics import ClusterAgreement, ClusterLoss, matched


@pytest.mark.parametrize("seed", range(5))
def test_the_best_pairing_is_that_of_all_pairings(seed):
    random = np.random.default_rng(seed)
    clusters, labels = random.integers(0, 4, 50), random.integers(0, 4, 50)
    best = max((np.array(order)[clusters] == labels).mean() for order in permutations(range(4)))
    assert matched(clusters, labels) == pytest.approx(best)


def test_more_clusters_than_classes_leave_some_without_one():
    assert matched(np.array([0, 1, 2, 3]), np.array([0, 0, 1, 1])) == 0.5


@pytest.mark.parametrize("measure", ["accuracy", "nmi", "ari"])
def test_it_is_scikit_learns_however_it_is_batched(measure):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 60)
    clusters = np.where(random.random(60) < 0.7, (labels + 1) % 3, random.integers(0, 3, 60))
    metric = ClusterAgreement(measure)
    for part in (slice(0, 7), slice(7, 60)):
        metric.update(torch.from_numpy(clusters[part]), torch.from_numpy(labels[part]))
    metric.update(torch.tensor([2, 2]), torch.tensor([-1, -1]))  # of no class
    expected = {
        "accuracy": matched,
        "nmi": lambda found, known: normalized_mutual_info_score(known, found),
        "ari": lambda found, known: adjusted_rand_score(known, found),
    }[measure](clusters, labels)
    assert metric.compute().item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("measure", ["accuracy", "nmi", "ari"])
def test_without_classes_there_is_no_agreement(measure):
    metric = ClusterAgreement(measure)
    metric.update(torch.tensor([0, 1]), torch.tensor([-1, -1]))
    assert metric.compute() == 0


def test_the_divergence_is_that_of_the_whole_split():
    q = torch.rand(20, 3).softmax(1)
    lost = torch.rand(20)
    metric = ClusterLoss(0.5, 2.0)
    for part in (slice(0, 3), slice(3, 20)):
        metric.update(lost[part], q[part])
    expected = 0.5 * lost.mean() + 2 * membership_kl(sharpened(q, q.sum(0)), q).mean()
    torch.testing.assert_close(metric.compute(), expected)
