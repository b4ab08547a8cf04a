"""Kneser-Ney tables against dictionaries that follow the textbook, n-gram by n-gram."""

import copy
import math
import pickle
from collections import Counter, defaultdict

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from dlarch.errors import DataError, OptionError
from dlarch.nn.kneser_ney import KneserNey

PAD, UNK, BOS, EOS = range(4)
VOCABULARY = 9  # the four special ids and five letters
PREDICTABLE = [EOS, 4, 5, 6, 7, 8]
DISCOUNTS = [0.5, 0.6, 0.75, 0.9]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Textbook:
    """Chen and Goodman's interpolated Kneser-Ney, one dictionary per order."""

    def __init__(self, sequences, order, discounts):
        self.order, self.discounts = order, discounts
        top = Counter()
        for sequence in sequences:
            padded = [BOS] * (order - 1) + sequence
            for end in range(order - 1, len(padded)):
                top[tuple(padded[end - order + 1 : end + 1])] += 1
        self.counts = {order: dict(top)}
        for size in range(order - 1, 0, -1):
            before = defaultdict(set)
            for first, *rest in self.counts[size + 1]:
                before[tuple(rest)].add(first)
            self.counts[size] = {ngram: len(firsts) for ngram, firsts in before.items()}

    def probability(self, word, context, size=None):
        size = self.order if size is None else size
        if size == 0:
            return 1 / len(PREDICTABLE)
        context = tuple(context)[len(context) - size + 1 :]
        lower = self.probability(word, context[1:], size - 1)
        followers = {n[-1]: c for n, c in self.counts[size].items() if n[:-1] == context}
        if not followers:
            return lower
        total, discount = sum(followers.values()), self.discounts[size - 1]
        kept = max(followers.get(word, 0) - discount, 0) / total
        return kept + discount * len(followers) / total * lower


def some_sequences(count=25):
    """Random sequences over five letters, some of which are frequent, with an end."""
    weights = torch.tensor([8.0, 4.0, 2.0, 1.0, 1.0])
    lengths = torch.randint(0, 9, (count,)).tolist()
    return [
        [4 + i for i in torch.multinomial(weights, n, replacement=True).tolist()] + [EOS]
        if n
        else [EOS]
        for n in lengths
    ]


def batch(sequences, extra=0):
    """Ids (B, T) with a start, padded on the right, `extra` places more than needed."""
    rows = torch.full((len(sequences), 1 + extra + max(map(len, sequences))), PAD)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: 1 + len(sequence)] = torch.tensor([BOS, *sequence])
    return rows


def counted(*batches, order=3, discount=0.75, **options):
    model = KneserNey(order, VOCABULARY, discount, predictable=PREDICTABLE, **options)
    for tokens in batches:
        model.update(tokens)
    model.finish()
    return model


def assert_equal_tables(model, other):
    tables, others = model.state_dict(), other.state_dict()
    assert tables.keys() == others.keys()
    assert all(torch.equal(tables[name], others[name]) for name in tables)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_are_those_of_the_textbook(order):
    sequences, unseen = some_sequences(), some_sequences(10)
    textbook = Textbook(sequences, order, DISCOUNTS[:order])
    model = counted(batch(sequences), order=order, discount=DISCOUNTS[:order])
    found = model.score(batch(unseen))
    for row, sequence in zip(found, unseen, strict=True):
        padded = [BOS] * (order - 1) + sequence
        for place, word in enumerate(sequence):
            context = padded[place : place + order - 1]
            expected = math.log(textbook.probability(word, context))
            assert float(row[place]) == pytest.approx(expected, abs=1e-5)
            everything = model.log_probability(torch.tensor([context], dtype=torch.long))[0].exp()
            for other in PREDICTABLE:
                expected = textbook.probability(other, context)
                assert float(everything[other]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 8])
def test_probabilities_sum_to_one_over_what_can_be_predicted(order):
    model = counted(batch(some_sequences()), order=order, discount=0.9)
    found = model.log_probability(torch.randint(2, VOCABULARY, (200, 9)))
    assert found.shape == (200, VOCABULARY)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.exp().sum(1), torch.ones(200), atol=1e-6, rtol=0)
    assert (found[:, [PAD, UNK, BOS]] == -math.inf).all()
    assert (found[:, PREDICTABLE] > -math.inf).all()


def test_scores_are_the_distributions_read_at_the_tokens():
    model = counted(batch(some_sequences()), order=4)
    tokens = batch(some_sequences(12))
    found = model.score(tokens)
    for place in range(1, tokens.shape[1]):
        real = tokens[:, place] != PAD
        everything = model.log_probability(tokens[real, :place])
        expected = everything.gather(1, tokens[real, place, None])[:, 0]
        torch.testing.assert_close(found[real, place - 1], expected)


def test_the_highest_order_is_counted_as_it_stands_and_the_lower_by_what_precedes():
    """After x always comes y, a hundred times, but nothing else comes before y."""
    x, y, z = 4, 5, 6
    sequences = [[x, y, EOS]] * 100 + [[z, EOS], [x, z, EOS]]
    unigram, bigram = (counted(batch(sequences), order=n) for n in (1, 2))
    nothing = torch.empty(1, 0, dtype=torch.long)
    assert float(unigram.log_probability(nothing).exp()[0, y]) > 0.3
    assert float(bigram.log_probability(torch.tensor([[7]])).exp()[0, y]) < 0.2


def test_padding_does_not_change_counts_or_scores():
    sequences = some_sequences()
    model = counted(batch(sequences))
    assert_equal_tables(model, counted(batch(sequences, extra=5)))
    scores, padded = model.score(batch(sequences)), model.score(batch(sequences, extra=5))
    assert torch.equal(padded[:, : scores.shape[1]], scores)
    assert (padded[batch(sequences, extra=5)[:, 1:] == PAD] == 0).all()


def test_padding_on_the_left_of_a_context_is_the_beginning():
    model = counted(batch(some_sequences()), order=4)
    context = torch.tensor([[PAD, PAD, BOS, 4], [BOS, BOS, BOS, 4], [7, 7, BOS, 4]])
    short = model.log_probability(torch.tensor([[BOS, 4]]))
    assert torch.equal(model.log_probability(context), short.expand(3, -1))


@pytest.mark.parametrize("order", [1, 3, 4])
def test_one_batch_or_many_give_the_same_tables(order):
    sequences = some_sequences()
    whole = counted(batch(sequences), order=order)
    parts = [batch(sequences[first : first + 4]) for first in range(0, 25, 4)]
    for batches in (parts, parts[::-1]):
        assert_equal_tables(whole, counted(*batches, order=order))


def test_after_finish_counts_begin_again():
    first, second = batch(some_sequences()), batch(some_sequences())
    model = counted(first)
    model.update(second)
    model.finish()
    assert_equal_tables(model, counted(second))


@pytest.mark.parametrize("order", [1, 2, 4])
def test_windows_with_context_count_and_score_as_the_long_stream(order):
    stream = torch.randint(4, VOCABULARY, (1, 1000))
    whole, windows = (
        counted(stream, order=order),
        KneserNey(order, VOCABULARY, predictable=PREDICTABLE),
    )
    windows.update(stream[:, :100])
    for first in range(100, 1000, 100):
        windows.update(stream[:, first - (order - 1) : first + 100], context=order - 1)
    windows.finish()
    assert_equal_tables(whole, windows)
    found, window = whole.score(stream), whole.score(stream[:, 500 - order : 600])
    torch.testing.assert_close(window[:, order - 1 :], found[:, 499:599])


def test_unseen_contexts_back_off_to_the_longest_seen_end():
    model = counted(torch.tensor([[BOS, 4, 5, 6, EOS], [BOS, 4, 5, 7, EOS]]))
    seen, unseen = model.log_probability(torch.tensor([[4, 5], [8, 5]])).exp()
    assert float(unseen[6]) < float(seen[6])
    # Of the two bigrams 5 6 and 5 7, both seen after one token; of unigrams four different ones.
    unigrams = {4: 0.25, 5: 0.25, 6: 0.25, 7: 0.25, EOS: 1.25, 8: 0}
    for token, kept in unigrams.items():
        lower = kept / 6 + 0.75 * 5 / 6 / 6
        expected = (0.125 if token in (6, 7) else 0) + 0.75 * lower
        assert float(unseen[token]) == pytest.approx(expected)
    nowhere = model.log_probability(torch.tensor([[8, 8]]))
    torch.testing.assert_close(nowhere, counted_unigram(model))


def counted_unigram(model):
    """What a model says when no context was seen, by its lowest level."""
    kept = (model.levels[0].counts - 0.75).clamp(min=0)
    found = torch.zeros(VOCABULARY)
    found[PREDICTABLE] = 0.75 * len(kept) / len(PREDICTABLE)
    found[model.levels[0].ngrams] += kept
    return (found / model.levels[0].totals).log()[None]


def test_adding_to_counts_gives_the_plain_smoothed_bigram():
    model = counted(torch.tensor([[BOS, 4, 4, 5, EOS], [BOS, 4, 6, EOS, PAD]]), order=2, add=1.0)
    after_4, after_8 = model.log_probability(torch.tensor([[4], [8]])).exp()
    expected = {4: 2 / 9, 5: 2 / 9, 6: 2 / 9, 7: 1 / 9, 8: 1 / 9, EOS: 1 / 9}
    assert {token: float(after_4[token]) for token in expected} == pytest.approx(expected)
    torch.testing.assert_close(after_8[PREDICTABLE], torch.full((6,), 1 / 6))
    scores = model.score(torch.tensor([[BOS, 4, 5]])).exp()
    torch.testing.assert_close(scores, torch.tensor([[3 / 8, 2 / 9]]))


def test_a_vocabulary_whose_powers_exceed_64_bits():
    tokens = torch.randint(4, 100_000, (50, 20)).repeat(2, 1)
    model = KneserNey(6, 100_000)
    model.update(tokens)
    model.finish()
    assert float(model.score(tokens)[:, 6:].mean().exp()) > 0.4
    found = model.log_probability(tokens[:3, :10])
    assert torch.equal(found.argmax(1), tokens[:3, 10])
    torch.testing.assert_close(found.exp().sum(1), torch.ones(3), atol=1e-5, rtol=0)


def test_other_ids_of_padding_and_start():
    sequences = some_sequences()
    swapped = torch.tensor([3, 1, 0, 2, 4, 5, 6, 7, 8])[batch(sequences)]
    ids = [2, 4, 5, 6, 7, 8]
    other = KneserNey(3, VOCABULARY, predictable=ids, padding_id=3, start_id=0)
    other.update(swapped)
    other.finish()
    torch.testing.assert_close(
        other.score(swapped), counted(batch(sequences)).score(batch(sequences))
    )


def written(state):
    """A state dict after a way through safetensors."""
    return load(save(state))


def stored(state, tmp_path):
    torch.save(state, tmp_path / "tables.pt")
    return torch.load(tmp_path / "tables.pt", weights_only=True)


@pytest.mark.parametrize("way", ["torch", "safetensors"])
@pytest.mark.parametrize("finished", [True, False], ids=["tables", "text"])
def test_tables_and_uncounted_text_are_saved_and_loaded(way, finished, tmp_path):
    sequences = some_sequences()
    holder = nn.ModuleDict({"table": KneserNey(3, VOCABULARY, predictable=PREDICTABLE)})
    holder["table"].update(batch(sequences[:10]))
    holder["table"].update(batch(sequences[10:]))
    if finished:
        holder["table"].finish()
    state = holder.state_dict()
    state = written(state) if way == "safetensors" else stored(state, tmp_path)
    other = nn.ModuleDict({"table": counted(batch(some_sequences(5)))})
    other["table"].update(batch(some_sequences(5)))
    other.load_state_dict(state)
    if not finished:
        other["table"].finish()
    assert_equal_tables(other["table"], counted(batch(sequences)))


def test_make_room_takes_the_shapes_of_a_state_dict():
    state = {
        f"table.{name}": t for name, t in counted(batch(some_sequences())).state_dict().items()
    }
    model = KneserNey(3, VOCABULARY, predictable=PREDICTABLE)
    model.make_room(state, prefix="table.")
    shapes = {f"table.{name}": table.shape for name, table in model.state_dict().items()}
    assert shapes == {name: table.shape for name, table in state.items()}


def test_tables_of_another_vocabulary_or_order_are_refused():
    state = counted(batch(some_sequences())).state_dict()
    with pytest.raises(RuntimeError, match="predictable"):
        KneserNey(3, VOCABULARY + 1).load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"levels\.3"):
        KneserNey(4, VOCABULARY).load_state_dict(state)


def test_copies_and_half_precision_say_the_same():
    model, tokens = counted(batch(some_sequences())), batch(some_sequences())
    expected = model.score(tokens)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.half()):
        assert torch.equal(other.score(tokens), expected)
        assert other.log_probability(tokens).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, "order must be at least 1, not 0"),
        ({"discount": 1.5}, "from 0 to 1"),
        ({"discount": float("nan")}, "from 0 to 1"),
        ({"discount": [0.5, 0.5]}, "3, one by order"),
        ({"add": 0.0}, "positive"),
        ({"add": float("inf")}, "positive"),
        ({"predictable": []}, "at least one"),
        ({"predictable": [BOS, 4]}, "start"),
        ({"predictable": [VOCABULARY]}, f"0 to {VOCABULARY - 1}"),
    ],
)
def test_options_that_make_no_distribution(options, message):
    with pytest.raises(OptionError, match=message):
        KneserNey(**{"order": 3, "vocab_size": VOCABULARY} | options)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.ones(2, 3), "torch.float32 of 2"),
        (torch.ones(2, 3, dtype=torch.bool), "torch.bool"),
        (torch.ones(3, dtype=torch.long), "of 1 dim"),
        (torch.tensor([[BOS, VOCABULARY]]), "0 to 8, not 2 to 9"),
        (torch.tensor([[BOS, -1]]), "not -1 to 2"),
    ],
)
def test_tokens_that_are_no_ids(tokens, message):
    model = counted(batch(some_sequences()))
    for method in (model.update, model.score, model.log_probability):
        with pytest.raises(DataError, match=message):
            method(tokens)


def test_all_that_can_be_predicted_is_alike_before_anything_is_counted():
    fresh, forgetful = (KneserNey(3, VOCABULARY, predictable=PREDICTABLE) for _ in range(2))
    forgetful.update(batch(some_sequences()))
    forgetful.finish(keep=True)
    forgetful.forget()
    for model in (fresh, forgetful):
        assert not len(model.stream)
        found = model.log_probability(torch.tensor([[BOS, 4]])).exp()[0]
        torch.testing.assert_close(found[PREDICTABLE], torch.full((6,), 1 / 6))
        assert found.sum() == pytest.approx(1)
        assert model.score(torch.tensor([[BOS, 4]])).exp().item() == pytest.approx(1 / 6)


def test_text_that_is_kept_is_counted_together_with_what_follows():
    first, second = batch(some_sequences()), batch(some_sequences())
    model = KneserNey(3, VOCABULARY, predictable=PREDICTABLE)
    model.update(first)
    model.finish(keep=True)
    assert torch.equal(model.score(first), counted(first).score(first))
    model.update(second)
    model.finish()
    assert_equal_tables(model, counted(first, second))


def test_what_cannot_be_counted():
    model = KneserNey(2, VOCABULARY, predictable=PREDICTABLE)
    with pytest.raises(DataError, match="id 1 is in the text"):
        model.update(torch.tensor([[BOS, UNK]]))
    model.update(torch.tensor([[BOS, PAD]]))
    with pytest.raises(DataError, match="no token"):
        model.finish()
