"""Soft clusters: Student's t, what memberships should become, and the divergence."""

import torch
from torch.distributions import Categorical, StudentT, kl_divergence

from dlarch.nn import membership_kl, sharpened, student_memberships


def memberships():
    generator = torch.Generator().manual_seed(0)
    code, centers = (torch.randn(n, 3, generator=generator) for n in (7, 4))
    return code, centers, student_memberships(code, centers)


def test_one_dimension_is_the_density_of_students_t():
    code, centers = torch.randn(6, 1), torch.randn(3, 1)
    # With one degree of freedom the density is 1 / (pi (1 + x^2)).
    density = StudentT(1.0).log_prob(code - centers.T).exp()
    torch.testing.assert_close(
        student_memberships(code, centers), density / density.sum(1, keepdim=True)
    )


def test_memberships_are_the_formula_pair_by_pair():
    code, centers, q = memberships()
    for row, z in enumerate(code):
        near = [1 / (1 + float(((z - mu) ** 2).sum())) for mu in centers]
        torch.testing.assert_close(q[row], torch.tensor(near) / sum(near))


def test_targets_are_the_formula_pair_by_pair():
    _, _, q = memberships()
    p = sharpened(q, q.sum(0))
    for i in range(7):
        parts = [float(q[i, j] ** 2 / q[:, j].sum()) for j in range(4)]
        torch.testing.assert_close(p[i], torch.tensor(parts) / sum(parts))


def test_targets_are_surer_where_clusters_are_of_one_size():
    q = torch.tensor([[0.6, 0.4], [0.4, 0.6]])
    p = sharpened(q, q.sum(0))
    torch.testing.assert_close(p, torch.tensor([[9 / 13, 4 / 13], [4 / 13, 9 / 13]]))


def test_the_divergence_is_that_of_torch():
    _, _, q = memberships()
    p = sharpened(q, q.sum(0))
    expected = kl_divergence(Categorical(probs=p), Categorical(probs=q))
    torch.testing.assert_close(membership_kl(p, q), expected)
    sure = torch.tensor([[1.0, 0.0]])
    assert membership_kl(sure, sure).item() == 0
