import itertools
import math

import pytest
import torch
from torch import Tensor

from dlarch.decoding import StepOutput, beam_search, greedy, history
from dlarch.errors import OptionError
from dlarch.spec import BOS, EOS, PAD, UNK

SEEDS = (0, 1, 2, 3)
PENALTIES = (0.0, 0.6, 1.0, 2.0)


def plain_beam(next_scores, beam_size, limit, penalty):
    """One sentence at a time, with lists: [(normalised score, tokens)], best first."""
    alive, finished = [(0.0, ())], []
    for length in range(1, limit + 1):
        candidates = []
        for score, prefix in alive:
            following = next_scores(prefix)
            candidates += [(score + s, (*prefix, v)) for v, s in enumerate(following)]
        candidates = sorted((c for c in candidates if c[0] > -math.inf), reverse=True)
        candidates = candidates[: 2 * beam_size]
        for score, tokens in candidates[:beam_size]:
            if tokens[-1] == EOS:
                finished.append((score / length**penalty, tokens))
        finished = sorted(finished, reverse=True)[:beam_size]
        if len(finished) == beam_size:
            break
        alive = [c for c in candidates if c[1][-1] != EOS][:beam_size]
        if length == limit:
            finished += [(score / length**penalty, tokens) for score, tokens in alive]
    return sorted(finished, reverse=True)[:beam_size]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("return_attention", [False, True])
def test_beam_of_one_equals_greedy(tools, seed, return_attention) -> None:
    model = tools.model(seed, vocabulary=12, end_bias=1.0)
    start = model.start([4, 2, 7, 5, 3, 1, 6, 4, 2, 2])
    limits = torch.tensor([20, 1, 20, 5, 9, 20, 20, 2, 20, 20])
    one = beam_search(
        model, **start, max_length=limits, beam_size=1, length_penalty=0.0,
        return_attention=return_attention,
    )  # fmt: skip
    other = greedy(model, **start, max_length=limits, return_attention=return_attention)
    assert one.tokens.size(2) > 5
    assert torch.equal(one.tokens, other.tokens)
    assert torch.allclose(one.scores, other.scores, atol=1e-6)
    if return_attention:
        assert torch.allclose(one.attention, other.attention, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_exhaustive_beam_equals_brute_force(tools, seed) -> None:
    model = tools.model(seed, vocabulary=6, end_bias=1.0)
    start = model.start([3, 5])
    limits = torch.tensor([5, 4])
    readers = [tools.reader(model, tools.sentence(start, row)) for row in range(2)]
    for penalty in PENALTIES:
        found = beam_search(
            model, **start, max_length=limits, beam_size=400, n_best=300, length_penalty=penalty
        )
        for row, limit in enumerate(limits.tolist()):
            every = tools.all_sequences(readers[row], limit)
            assert len(every) == sum(3**n for n in range(limit)) + 3**limit
            expected = sorted(
                ((score / len(tokens) ** penalty, tokens) for tokens, score in every.items()),
                reverse=True,
            )[:300]
            count = len(expected)
            scores = torch.tensor([score for score, _ in expected])
            assert torch.allclose(found.scores[row, :count], scores, atol=1e-4)
            assert found.scores[row, count:].eq(-math.inf).all()
            got = [tools.ids(found, row, place) for place in range(count)]
            assert got[0] == expected[0][1]
            assert len(set(got)) == count
            # Sequences whose scores differ by rounding only may have changed places.
            own = torch.tensor([every[tokens] / len(tokens) ** penalty for tokens in got])
            assert torch.allclose(own, scores, atol=1e-4)


def test_brute_force_cases_hold_early_ends_and_ends_at_the_limit(tools) -> None:
    lengths = set()
    for seed in SEEDS:
        model = tools.model(seed, vocabulary=6, end_bias=1.0)
        for penalty in (0.0, 2.0):
            found = beam_search(
                model, **model.start([3, 5]), max_length=5, beam_size=400, length_penalty=penalty
            )
            lengths |= {
                (len(tools.ids(found, row)), EOS in tools.ids(found, row)) for row in (0, 1)
            }
    assert {length for length, ended in lengths if ended} >= {1, 5}
    assert any(not ended for _, ended in lengths)


@pytest.mark.parametrize("end_bias", [1.5, 4.0])  # with 4, several hypotheses end at once
@pytest.mark.parametrize("seed", SEEDS)
def test_narrow_beam_equals_plain_beam_of_one_sentence(tools, seed, end_bias) -> None:
    model = tools.model(seed, vocabulary=9, end_bias=end_bias)
    start = model.start([3, 6, 2, 4])
    limits = torch.tensor([8, 3, 1, 6])
    readers = [tools.reader(model, tools.sentence(start, row)) for row in range(4)]
    for beam_size, penalty in itertools.product([2, 3, 5], PENALTIES):
        found = beam_search(
            model, **start, max_length=limits, beam_size=beam_size, n_best=beam_size,
            length_penalty=penalty,
        )  # fmt: skip
        for row, limit in enumerate(limits.tolist()):
            expected = plain_beam(readers[row], beam_size, limit, penalty)
            got = [tools.ids(found, row, place) for place in range(len(expected))]
            assert got == [tokens for _, tokens in expected]
            scores = torch.tensor([score for score, _ in expected])
            assert torch.allclose(found.scores[row, : len(expected)], scores, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_batch_equals_each_sentence_alone(tools, seed) -> None:
    model = tools.model(seed, vocabulary=15, end_bias=1.0)
    lengths = [7, 1, 3, 9, 2, 2, 5, 8]
    start = model.start(lengths)
    limits = torch.tensor([12, 3, 1, 7, 12, 2, 9, 12])
    options = {"beam_size": 4, "n_best": 3, "return_attention": True}
    batch = beam_search(model, **start, max_length=limits, **options)
    for row, limit in enumerate(limits.tolist()):
        alone = beam_search(model, **tools.sentence(start, row), max_length=limit, **options)
        length = alone.tokens.size(2)
        assert torch.equal(batch.tokens[row, :, :length], alone.tokens[0])
        assert batch.tokens[row, :, length:].eq(PAD).all()
        assert torch.allclose(batch.scores[row], alone.scores[0], atol=1e-5)
        attention = batch.attention[row, :, :length, : lengths[row]]
        assert torch.allclose(attention, alone.attention[0], atol=1e-5)
        assert batch.attention[row, :, length:].eq(0).all()


def test_dropping_finished_sentences_changes_nothing(tools) -> None:
    model = tools.model(1, vocabulary=15, end_bias=1.0)
    start = model.start([3] * 40)
    limits = torch.arange(40) % 20 + 1
    options = {"max_length": limits, "beam_size": 3, "n_best": 3, "return_attention": True}
    small = beam_search(model, **start, **options)
    sizes = [rows for rows, _ in model.seen]
    model.seen.clear()
    full = beam_search(model, **start, **options, compact=False)
    assert {rows for rows, _ in model.seen} == {40}
    assert len(set(sizes)) >= 4
    assert all(
        later == earlier or later <= 0.75 * earlier for earlier, later in itertools.pairwise(sizes)
    )
    assert torch.equal(small.tokens, full.tokens)
    assert torch.allclose(small.scores, full.scores, atol=1e-6)
    assert torch.allclose(small.attention, full.attention, atol=1e-6)


def test_looking_rarely_for_the_end_changes_nothing(tools, monkeypatch) -> None:
    model = tools.model(1, vocabulary=15, end_bias=2.0)
    start = model.start([3] * 9)
    options = {"max_length": 30, "beam_size": 3, "return_attention": True}
    often = beam_search(model, **start, **options)
    steps = len(model.seen)
    model.seen.clear()
    monkeypatch.setattr(history, "look_interval", lambda device: 8)
    rare = beam_search(model, **start, **options)
    assert len(model.seen) > steps
    assert torch.equal(often.tokens, rare.tokens)
    assert torch.allclose(often.scores, rare.scores, atol=1e-6)
    assert torch.allclose(often.attention, rare.attention, atol=1e-6)


class Diary:
    """Attention of each step is (what was read so far as a number in base V, sentence number)."""

    def __init__(self, seed: int, vocabulary: int = 8) -> None:
        self.vocabulary = vocabulary
        generator = torch.Generator().manual_seed(seed)
        self.table = 1.5 * torch.randn(1009, vocabulary, generator=generator)

    def step(self, token: Tensor, state: Tensor, memory: Tensor) -> StepOutput:
        code = state * self.vocabulary + token
        logits = self.table[(code * 31 + memory) % 1009]
        return StepOutput(
            logits, code, torch.stack([code.double(), memory.expand_as(code).double()], -1)
        )


@pytest.mark.parametrize("beam_size", [1, 3, 6])
def test_attention_rows_belong_to_their_hypothesis(tools, beam_size) -> None:
    size = 12
    start = {
        "token": torch.full((size, 1), BOS),
        "state": torch.zeros(size, 1, dtype=torch.long),
        "memory": torch.arange(size).unsqueeze(1),
    }
    model = Diary(3)
    found = beam_search(
        model, **start, max_length=torch.arange(size) + 2, beam_size=beam_size, n_best=beam_size,
        return_attention=True, length_penalty=0.5,
    )  # fmt: skip
    lengths = set()
    for row in range(size):
        for place in range(beam_size):
            tokens = tools.ids(found, row, place)
            lengths.add(len(tokens))
            code = 0
            for position, token in enumerate((BOS, *tokens[:-1])):
                code = code * model.vocabulary + token
                assert found.attention[row, place, position].tolist() == [code, row]
            assert found.attention[row, place, len(tokens) :].eq(0).all()
    assert len(lengths) > 3


def test_attention_is_none_unless_asked_for_and_offered(tools) -> None:
    model = tools.model(0)
    start = model.start([3])
    assert beam_search(model, **start, max_length=4).attention is None
    assert greedy(model, **start, max_length=4).attention is None
    start["memory"] = None  # the model then has no attention
    assert beam_search(model, **start, max_length=4, return_attention=True).attention is None
    assert greedy(model, **start, max_length=4, return_attention=True).attention is None


class Fixed:
    """The same logits at every step."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def step(self, token: Tensor, state: None, memory: None) -> StepOutput:
        return StepOutput(self.logits.expand(*token.shape, -1), None)


def test_forbidden_ids_never_appear() -> None:
    logits = torch.tensor([9.0, 5.0, 9.0, 1.0, 2.0, 3.0])
    token = torch.full((2, 1), BOS)
    found = beam_search(Fixed(logits), token, None, None, 5, beam_size=4, n_best=4)
    assert not torch.isin(found.tokens[..., 0], torch.tensor([PAD, BOS])).any()
    assert not found.tokens.eq(BOS).any()
    assert found.tokens.eq(UNK).any()  # allowed by default
    forbidden = (PAD, BOS, UNK, EOS)
    found = beam_search(
        Fixed(logits), token, None, None, 5, beam_size=4, n_best=4, forbidden=forbidden
    )
    assert found.tokens.shape == (2, 4, 5)
    assert set(found.tokens.unique().tolist()) == {4, 5}
    # Forbidding takes candidates away; the others keep the model's own probabilities.
    assert torch.allclose(found.scores[:, 0], logits.log_softmax(-1)[5])


def test_fewer_sequences_than_asked_leave_padding_and_no_nan() -> None:
    logits = torch.full((6,), -math.inf)
    logits[EOS] = 0.0
    found = beam_search(
        Fixed(logits), torch.full((3, 1), BOS), None, None, 7, beam_size=3, n_best=3,
        return_attention=True,
    )  # fmt: skip
    assert found.tokens.tolist() == [[[EOS], [PAD], [PAD]]] * 3
    assert found.scores.tolist() == [[0.0, -math.inf, -math.inf]] * 3


class Watched:
    """One sentence ends at once in all hypotheses, the other never; dead states are seen."""

    def __init__(self) -> None:
        self.finite = True

    def step(self, token: Tensor, state: Tensor, memory: Tensor) -> StepOutput:
        state = state + torch.randn(token.shape[1], generator=torch.Generator().manual_seed(0))
        logits = memory.unsqueeze(1) + state.unsqueeze(-1) * torch.arange(8) / 50
        self.finite &= bool(logits.isfinite().all())
        return StepOutput(logits, state)


@pytest.mark.parametrize("compact", [True, False])
def test_sentence_with_all_hypotheses_finished_stays_free_of_nan(compact) -> None:
    memory = torch.zeros(2, 8)
    memory[0, EOS], memory[1, EOS] = 30.0, -30.0
    model = Watched()
    start = {"token": torch.full((2, 1), BOS), "state": torch.zeros(2, 1), "memory": memory}
    found = beam_search(
        model, **start, max_length=12, beam_size=3, n_best=3, compact=compact, length_penalty=2.0
    )
    assert model.finite
    assert found.scores.isfinite().all()
    assert found.tokens[0, 0].tolist() == [EOS] + [PAD] * 11
    assert found.tokens[1].ne(PAD).all()


def test_beam_may_be_wider_than_the_vocabulary() -> None:
    logits = torch.randn(6, generator=torch.Generator().manual_seed(0))
    found = beam_search(
        Fixed(logits), torch.full((1, 1), BOS), None, None, 2, beam_size=50, n_best=50,
        length_penalty=0.0,
    )  # fmt: skip
    p = logits.log_softmax(-1)
    words = [UNK, 4, 5]
    every = [p[EOS]] + [p[a] + p[b] for a in words for b in (*words, EOS)]
    expected = torch.stack(every).sort(descending=True).values
    assert torch.allclose(found.scores[0, :13], expected)
    assert found.scores[0, 13:].eq(-math.inf).all()


def test_half_precision_logits_are_scored_in_float32(tools) -> None:
    logits = torch.randn(200, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = beam_search(Fixed(logits), torch.full((1, 1), BOS), None, None, 1, beam_size=3)
    expected = logits.float().log_softmax(-1)
    expected[[PAD, BOS]] = -math.inf
    assert found.scores.dtype == torch.float32
    assert found.scores[0, 0] == expected.max()


def test_decoding_works_in_inference_mode_and_gives_plain_tensors_outside(tools) -> None:
    model = tools.model(2)
    start = model.start([3, 2])
    outside = beam_search(model, **start, max_length=5)
    assert not outside.tokens.is_inference()
    assert not outside.scores.requires_grad
    with torch.inference_mode():
        inside = beam_search(model, **start, max_length=5)
    assert torch.equal(inside.tokens, outside.tokens)


def test_empty_batch_gives_an_empty_result() -> None:
    found = beam_search(Fixed(torch.zeros(6)), torch.full((0, 1), BOS), None, None, 5, n_best=2)
    assert found.tokens.shape == (0, 2, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "beam_size must be at least 1, not 0"),
        ({"beam_size": 3, "n_best": 4}, r"n_best must be from 1 to beam_size \(3\), not 4"),
        ({"n_best": 0}, "n_best"),
        ({"length_penalty": math.nan}, "length_penalty"),
        ({"length_penalty": math.inf}, "length_penalty"),
        ({"max_length": 0}, "max_length must be at least 1, not 0"),
        ({"max_length": torch.tensor([3, -2])}, "max_length must be at least 1, not -2"),
    ],
)
def test_impossible_options_are_refused(options, message) -> None:
    arguments = {"max_length": 5, **options}
    with pytest.raises(OptionError, match=message):
        beam_search(Fixed(torch.zeros(6)), torch.full((2, 1), BOS), None, None, **arguments)
