import math

import pytest
import torch
from torch import Tensor

from dlarch.decoding import StepOutput, draw, greedy, history, sample
from dlarch.errors import OptionError
from dlarch.spec import BOS, EOS, PAD, UNK


class Fixed:
    """The same logits at every step."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def step(self, token: Tensor, state: None, memory: None) -> StepOutput:
        return StepOutput(self.logits.expand(*token.shape, -1), None)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def first_tokens(logits: Tensor, count: int = 40_000, **options) -> Tensor:
    found = sample(
        Fixed(logits), torch.full((1, 1), BOS), None, None, 1, num_samples=count,
        generator=generator(), **options,
    )  # fmt: skip
    return found.tokens.flatten()


def chi_square(tokens: Tensor, probability: Tensor) -> float:
    """Per degree of freedom; near 1 for a right sampler, with infinity for an impossible token."""
    counts = torch.bincount(tokens, minlength=len(probability)).double()
    expected = probability.double() * len(tokens)
    possible = expected > 0
    if counts[~possible].any():
        return math.inf
    if possible.sum() == 1:
        return 0.0
    terms = (counts - expected)[possible] ** 2 / expected[possible]
    return float(terms.sum() / (possible.sum() - 1))


def exact(logits: Tensor, temperature: float, top_k: int | None, top_p: float) -> Tensor:
    """The distribution asked for, token by token from the definitions."""
    weights = {v: math.exp(x / temperature) for v, x in enumerate(logits.tolist())}
    del weights[PAD], weights[BOS]
    order = sorted(weights, key=weights.__getitem__, reverse=True)[:top_k]
    total = sum(weights[v] for v in order)
    kept, mass = [], 0.0
    for v in order:
        if mass >= top_p:
            break
        kept.append(v)
        mass += weights[v] / total
    probability = torch.zeros(len(logits))
    for v in kept:
        probability[v] = weights[v]
    return probability / probability.sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize(
    ("top_k", "top_p"),
    [(None, 1.0), (3, 1.0), (1, 1.0), (None, 0.6), (None, 1e-6), (6, 0.8), (99, 1.0)],
)
def test_frequencies_are_those_of_the_distribution_asked_for(temperature, top_k, top_p) -> None:
    logits = torch.randn(12, generator=generator(4)) * 1.5
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    tokens = first_tokens(logits, **options)
    probability = exact(logits, temperature, top_k, top_p)
    assert set(tokens.unique().tolist()) <= set(probability.nonzero().flatten().tolist())
    assert chi_square(tokens, probability) < 3
    if (top_k, top_p) == (None, 1.0):  # the statistic notices another temperature
        assert chi_square(tokens, exact(logits, temperature * 1.1, top_k, top_p)) > 10


def test_nucleus_is_the_smallest_set_that_reaches_its_probability() -> None:
    probability = torch.tensor([0, 0.125, 0, 0.0625, 0.5, 0.25, 0.0625])
    for top_p, support in [(0.5, {4}), (0.51, {4, 5}), (0.75, {4, 5}), (0.8, {4, 5, UNK})]:
        tokens = first_tokens(probability.log(), count=4000, top_p=top_p)
        assert set(tokens.unique().tolist()) == support


def test_token_without_probability_is_never_drawn_even_at_the_edges() -> None:
    scores = torch.tensor([-math.inf, 0.0, -math.inf, 0.0, -math.inf]).expand(4, -1)
    edge = 1 - 2**-24
    tokens = draw(scores.log_softmax(-1), torch.tensor([0.0, 0.5, edge, 1.0]))
    assert tokens.tolist()[:3] == [1, 3, 3]
    assert tokens[3] in (1, 3)


@pytest.mark.parametrize("temperature", [1e-3, 1e-12, 1e-300])
def test_tiny_temperature_draws_the_likeliest(temperature) -> None:
    logits = torch.tensor([9.0, 0.0, 9.0, -50.0, 1.0, 0.5])
    assert first_tokens(logits, count=100, temperature=temperature).eq(4).all()


@pytest.mark.parametrize("with_memory", [True, False])
def test_whole_sequences_come_as_often_as_their_probability(tools, with_memory) -> None:
    model = tools.model(5, vocabulary=6, end_bias=1.0)
    start = model.start([3, 2])
    if not with_memory:
        start["memory"] = None
    limits = torch.tensor([3, 2])
    count = 30_000
    found = sample(model, **start, max_length=limits, num_samples=count, generator=generator(1),
                   forbidden=(PAD, BOS))  # fmt: skip
    for row, limit in enumerate(limits.tolist()):
        one = tools.sentence(start, row) if with_memory else {
            "token": start["token"][row : row + 1],
            "state": type(start["state"])(
                start["state"].hidden[row : row + 1], (start["state"].more[0][row : row + 1], None)
            ),
            "memory": None,
        }  # fmt: skip
        reader = tools.reader(model, one)
        scores = tools.all_sequences(reader, limit)
        names = list(scores)
        # Draws renormalise over the allowed tokens, scores are the model's own.
        chances = torch.tensor([allowed_chance(reader, tokens) for tokens in names])
        assert math.isclose(chances.sum(), 1, abs_tol=1e-5)
        place = {tokens: index for index, tokens in enumerate(names)}
        drawn = [tools.ids(found, row, k) for k in range(count)]
        assert chi_square(torch.tensor([place[tokens] for tokens in drawn]), chances) < 2
        expected = torch.tensor([scores[tokens] for tokens in drawn])
        assert torch.allclose(found.scores[row], expected, atol=1e-4)


def allowed_chance(next_scores, tokens) -> float:
    chance = 1.0
    for length, token in enumerate(tokens):
        following = [math.exp(score) for score in next_scores(tokens[:length])]
        chance *= following[token] / sum(following)
    return chance


def test_same_seed_gives_the_same_sample_and_another_seed_another(tools) -> None:
    model = tools.model(3, vocabulary=15)
    start = model.start([4, 2, 5])
    options = {"max_length": 12, "num_samples": 5}
    first = sample(model, **start, **options, generator=generator(1))
    torch.rand(100)  # the global random state has no part in it
    again = sample(model, **start, **options, generator=generator(1))
    other = sample(model, **start, **options, generator=generator(2))
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.scores, again.scores)
    assert first.tokens.shape[:2] == (3, 5)
    assert not torch.equal(first.tokens, other.tokens)


def test_generator_leaves_the_global_random_state_alone(tools) -> None:
    model = tools.model(3)
    start = model.start([4])
    before = torch.get_rng_state()
    sample(model, **start, max_length=5, generator=generator())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("with_memory", [True, False])
def test_dropping_finished_sentences_changes_no_sample(tools, monkeypatch, with_memory) -> None:
    model = tools.model(1, vocabulary=15, end_bias=2.0)
    start = model.start([3] * 12)
    if not with_memory:
        start["memory"] = None
    options = {"max_length": torch.arange(12) + 5, "num_samples": 3, "return_attention": True}
    small = sample(model, **start, **options, generator=generator())
    assert len({rows for rows, _ in model.seen}) >= 3
    full = sample(model, **start, **options, generator=generator(), compact=False)
    monkeypatch.setattr(history, "look_interval", lambda device: 8)
    rare = sample(model, **start, **options, generator=generator())
    for other in (full, rare):
        assert torch.equal(small.tokens, other.tokens)
        assert torch.allclose(small.scores, other.scores, atol=1e-5)
        if with_memory:
            assert torch.allclose(small.attention, other.attention, atol=1e-6)


def test_temperature_zero_is_greedy_for_every_sample(tools) -> None:
    model = tools.model(2, vocabulary=15)
    start = model.start([4, 2])
    best = greedy(model, **start, max_length=9, return_attention=True)
    found = sample(
        model, **start, max_length=9, temperature=0, num_samples=3, return_attention=True
    )
    for place in range(3):
        assert torch.equal(found.tokens[:, place], best.tokens[:, 0])
        assert torch.equal(found.scores[:, place], best.scores[:, 0])
        assert torch.equal(found.attention[:, place], best.attention[:, 0])


def test_greedy_takes_the_likeliest_token_and_sums_its_scores(tools) -> None:
    lengths = set()
    for seed in range(4):
        model = tools.model(seed, vocabulary=9, end_bias=2.5)
        start = model.start([4, 2, 6, 1])
        limits = torch.tensor([10, 2, 10, 10])
        found = greedy(model, **start, max_length=limits, return_attention=True)
        for row, limit in enumerate(limits.tolist()):
            next_scores, tokens, total = tools.reader(model, tools.sentence(start, row)), (), 0.0
            while len(tokens) < limit and EOS not in tokens:
                following = next_scores(tokens)
                tokens = (*tokens, following.index(max(following)))
                total += max(following)
            lengths.add(len(tokens))
            assert tools.ids(found, row) == tokens
            assert math.isclose(found.scores[row, 0], total, rel_tol=1e-5)
            attention = found.attention[row, 0]
            assert torch.allclose(attention[: len(tokens)].sum(-1), torch.tensor(1.0))
            assert attention[len(tokens) :].eq(0).all()
    assert len(lengths) > 2


def test_greedy_batch_equals_each_sentence_alone_with_and_without_dropping(tools) -> None:
    model = tools.model(6, vocabulary=20, end_bias=1.5)
    lengths = [1 + n % 7 for n in range(30)]
    start = model.start(lengths)
    limits = 1 + torch.arange(30) * 7 % 25
    batch = greedy(model, **start, max_length=limits, return_attention=True)
    sizes = [rows for rows, _ in model.seen]
    assert len(set(sizes)) >= 4
    model.seen.clear()
    full = greedy(model, **start, max_length=limits, return_attention=True, compact=False)
    assert {rows for rows, _ in model.seen} == {30}
    assert len(model.seen) == batch.tokens.size(2)  # no step more than the longest needs
    assert torch.equal(batch.tokens, full.tokens)
    assert torch.allclose(batch.attention, full.attention, atol=1e-6)
    for row, limit in enumerate(limits.tolist()):
        alone = greedy(model, **tools.sentence(start, row), max_length=limit, return_attention=True)
        length = alone.tokens.size(2)
        assert torch.equal(batch.tokens[row, :, :length], alone.tokens[0])
        assert batch.tokens[row, :, length:].eq(PAD).all()
        assert torch.allclose(batch.scores[row], alone.scores[0], atol=1e-5)
        attention = batch.attention[row, :, :length, : lengths[row]]
        assert torch.allclose(attention, alone.attention[0], atol=1e-6)


def test_forbidden_ids_are_never_drawn() -> None:
    logits = torch.tensor([9.0, 1.0, 9.0, 1.0, 2.0, 3.0])
    for options in ({}, {"top_k": 2}, {"top_p": 0.3}, {"temperature": 30.0}):
        assert not torch.isin(first_tokens(logits, **options), torch.tensor([PAD, BOS])).any()
    best = greedy(Fixed(logits), torch.full((1, 1), BOS), None, None, 3, forbidden=(PAD, BOS, 5))
    assert best.tokens.tolist() == [[[4, 4, 4]]]


def test_model_may_hand_out_a_view_of_its_weights() -> None:
    logits = torch.tensor([9.0, 1.0, 9.0, 1.0, 2.0, 3.0])
    before = logits.clone()
    first_tokens(logits, count=3)
    greedy(Fixed(logits), torch.full((1, 1), BOS), None, None, 3)
    assert torch.equal(logits, before)


def test_empty_batch_gives_an_empty_result() -> None:
    model, token = Fixed(torch.zeros(6)), torch.full((0, 1), BOS)
    assert greedy(model, token, None, None, 5).tokens.shape == (0, 1, 0)
    assert sample(model, token, None, None, 5, num_samples=4).tokens.shape == (0, 4, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, not 0"),
        ({"temperature": -0.5}, "temperature must be a number from 0 up, not -0.5"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, not 0.0"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
        ({"max_length": 0}, "max_length must be at least 1, not 0"),
    ],
)
def test_impossible_options_are_refused(options, message) -> None:
    arguments = {"max_length": 5, **options}
    with pytest.raises(OptionError, match=message):
        sample(Fixed(torch.zeros(6)), torch.full((2, 1), BOS), None, None, **arguments)


def test_token_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"token must be \(B, 1\), not \(3,\)"):
        greedy(Fixed(torch.zeros(6)), torch.full((3,), BOS), None, None, 5)
