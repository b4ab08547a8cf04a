"""Clusters with soft edges: how much a code belongs to each, and what it should (1511.06335)."""

from __future__ import annotations

import torch
from torch import Tensor


def student_memberships(code: Tensor, centers: Tensor) -> Tensor:
    r"""How much codes belong to clusters, by Student's t with one degree of freedom.

    $$q_{ij} \propto \frac{1}{1 + \lVert z_i - \mu_j \rVert^2}$$

    Args:
        code: (B, D).
        centers: (K, D).

    Returns:
        (B, K); rows add up to 1. In float32 at least.
    """
    with torch.autocast(code.device.type, enabled=False):  # differences of large numbers
        distances = (code.to(centers.dtype)[:, None] - centers).square().sum(2)
        nearness = 1 / (1 + distances)
        return nearness / nearness.sum(1, keepdim=True)


def sharpened(memberships: Tensor, frequencies: Tensor) -> Tensor:
    r"""What memberships should become: surer, with no cluster favoured for being large.

    $$p_{ij} \propto q_{ij}^2 / f_j, \qquad f_j = \sum_i q_{ij}$$

    Args:
        memberships: q, (B, K).
        frequencies: f, (K,), over all examples.

    Returns:
        (B, K); rows add up to 1.
    """
    weighed = memberships.square() / frequencies
    return weighed / weighed.sum(1, keepdim=True)


def membership_kl(target: Tensor, memberships: Tensor) -> Tensor:
    r"""$\sum_j p_{ij} \log (p_{ij} / q_{ij})$ of each example, in nats: (B, K) twice -> (B,)."""
    return (torch.xlogy(target, target) - torch.xlogy(target, memberships)).sum(1)
