import pytest
import torch

from dlarch.decoding.ranking import top


@pytest.mark.parametrize("size", [5, 64, 1024, 6000, 6016, 20_011])
@pytest.mark.parametrize("count", [1, 4, 10])
def test_top_equals_topk(size, count) -> None:
    generator = torch.Generator().manual_seed(size + count)
    scores = torch.randn(7, size, generator=generator)
    scores[1] = torch.arange(size)  # the best stand side by side at the end
    scores[2] = -torch.arange(size)
    scores[3, 3:] = -torch.inf
    count = min(count, size)
    values, places = top(scores, count)
    expected = scores.topk(count)
    assert torch.equal(values, expected.values)
    finite = values > -torch.inf
    assert torch.equal(places[finite], expected.indices[finite])
    assert all(len(set(row)) == count for row in places.tolist())  # no place twice
    assert torch.equal(scores.gather(1, places), values)


def test_top_of_equal_scores_gives_different_places() -> None:
    values, places = top(torch.zeros(2, 6000), 10)
    assert values.eq(0).all()
    assert all(len(set(row)) == 10 for row in places.tolist())
