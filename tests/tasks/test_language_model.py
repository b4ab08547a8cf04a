"""Language models: what is scored, and how texts are written."""

import math
from collections import Counter

import pytest
import torch

from dlarch import create_data, create_model
from dlarch.errors import DataError, MismatchError, OptionError
from dlarch.processing import LabelledTextProcessor, TextProcessor
from dlarch.spec import BOS, EOS
from dlarch.tasks import Given


@pytest.fixture
def model():
    """Untrained, of the letters a to e and two classes."""
    torch.manual_seed(0)
    letters = TextProcessor.from_tokens("abcde", "characters")
    made = create_model("char_rnn", vocab_size=9, num_conditions=2, hidden_size=16).eval()
    made.processor = LabelledTextProcessor(letters, ["early", "late"], "age", longest=8)
    return made


@torch.no_grad()
def by_hand(model, text, label):
    """Log-probability of each letter of a text and of its end, by itself."""
    ids = model.processor.tokens.encode(text)
    logits = model(torch.tensor([[BOS, *ids]]), torch.tensor([label]))[0]
    steps = logits.log_softmax(-1)
    return [float(steps[place, token]) for place, token in enumerate([*ids, EOS])]


def test_loss_and_perplexity_are_of_all_real_tokens(
    model, make_trainer, tmp_path, session_cache, monkeypatch
):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    file = tmp_path / "words.csv"
    letters = "abcde"
    words = [a + b * n for a in letters for b in letters for n in range(5)]
    lines = [f"{word},{('early', 'late')[n % 2]}" for n, word in enumerate(words)]
    file.write_text("name,age\n" + "\n".join(lines))
    data = create_data(
        "names", source=str(file), label="age", batch_size=5, processor=model.processor,
        divide="rows", clean=False,
    )  # fmt: skip
    found = make_trainer().validate(model, datamodule=data, verbose=False)[0]
    scores = [
        by_hand(model, text, model.processor.label(age))
        for text, age in data.open_source().read("validation")
    ]
    tokens = sum(map(len, scores))
    loss = -sum(map(sum, scores)) / tokens
    assert found["val/loss"] == pytest.approx(loss, abs=1e-5)
    assert found["val/perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)


def test_a_batch_of_texts_is_written_as_they_would_be_alone(model):
    texts = model.generate(50, condition="late", seed=3)
    assert texts == model.generate(50, condition="late", seed=3)
    assert texts != model.generate(50, condition="late", seed=4)
    assert all(set(text) <= set("abcde") and len(text) <= 12 for text in texts)
    assert model.generate(1, condition="late", seed=3) == model.generate(
        1, condition="late", seed=3
    )


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5, "top_k": 3}, {"top_p": 0.8}])
def test_a_text_comes_piece_by_piece_as_it_is_written_whole(model, options):
    for seed in range(5):
        options |= {"condition": "early", "seed": seed, "prompt": "ab"}
        assert "".join(model.stream(**options)) == model.generate(1, **options)[0]


def test_words_follow_a_prompt_as_words_do():
    torch.manual_seed(0)
    model = create_model("char_rnn", vocab_size=8, hidden_size=16).eval()
    words = TextProcessor.from_tokens(["one", "two", "three", "."], "words")
    model.processor = LabelledTextProcessor(words, longest=8)
    for seed in range(5):
        text = model.generate(1, prompt="one two .", seed=seed)[0]
        assert text.startswith("one two.")
        assert words.decode(words.encode(text)) == text
        assert "".join(model.stream(prompt="one two .", seed=seed)) == text


def test_written_texts_come_as_often_as_their_probability(model):
    count = 20_000
    found = Counter(model.generate(count, condition="late", seed=0))
    checked = 0
    for text, times in found.most_common(5):
        if "\x00" in text or len(text) > 7:
            continue
        # The model may also give what is never written; the rest shares its probability.
        expected = math.exp(sum(by_hand_allowed(model, text, 1)))
        deviation = math.sqrt(expected * (1 - expected) / count)
        assert abs(times / count - expected) < 5 * deviation + 2e-3, text
        checked += 1
    assert checked >= 3


@torch.no_grad()
def by_hand_allowed(model, text, label):
    """As `by_hand`, among tokens that can be written and seen: neither padding, BOS nor unknown."""
    ids = model.processor.tokens.encode(text)
    logits = model(torch.tensor([[BOS, *ids]]), torch.tensor([label]))[0]
    logits[:, [0, 1, 2]] = -math.inf
    steps = logits.log_softmax(-1)
    return [float(steps[place, token]) for place, token in enumerate([*ids, EOS])]


def test_a_beam_finds_the_likeliest_texts(model):
    best = model.generate(3, condition="early", beam=30)
    assert len(set(best)) == 3
    scores = [sum(by_hand(model, text, 0)) / (len(text) + 1) for text in best]
    assert scores == sorted(scores, reverse=True)


def test_temperature_0_takes_the_likeliest_token(model):
    text = model.generate(1, condition="early", temperature=0)[0]
    assert model.generate(2, condition="early", temperature=0) == [text, text]


def test_classes_are_drawn_when_none_is_asked_for(model):
    assert model.generate(20, seed=1) == model.generate(20, seed=1)
    drawn = model._labels(200, None, 1)
    assert 60 < int(drawn.sum()) < 140


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"n": 0}, OptionError, "n must be a whole number from 1 up, not 0"),
        ({"beam": 3, "temperature": 0.5}, OptionError, "Either draw"),
        (
            {"condition": "erly"},
            DataError,
            r"no class 'erly', only early, late. Did you mean 'early'\?",
        ),
        ({"prompt": "abx"}, DataError, "never seen 'x' of the prompt 'abx'"),
        ({"top_p": 2.0}, OptionError, "top_p must be above 0 and at most 1"),
    ],
)
def test_what_cannot_be_written_is_refused(model, options, error, said):
    with pytest.raises(error, match=said):
        model.generate(**{"condition": "early"} | options)
    if "n" not in options and "beam" not in options:
        with pytest.raises(error, match=said):
            list(model.stream(**{"condition": "early"} | options))


def test_a_class_must_be_given_and_a_processor_be_there(model):
    with pytest.raises(MismatchError, match="writes texts of 2 classes"):
        model(torch.tensor([[BOS, 4]]))
    plain = create_model("char_rnn", vocab_size=9)
    assert plain(torch.tensor([[BOS, 4]]), torch.tensor([1])).shape == (1, 2, 9)
    with pytest.raises(MismatchError, match="no processor to write text with"):
        plain.generate()
    plain.processor = LabelledTextProcessor(TextProcessor.from_tokens("abcde", "characters"))
    with pytest.raises(OptionError, match="knows no classes: leave out the condition"):
        plain.generate(condition="early")


def test_writing_leaves_the_mode_and_the_global_random_state_alone(model):
    model.train()
    before = torch.get_rng_state()
    model.generate(3, seed=0)
    list(model.stream(condition="early", seed=0))
    model.written_texts(4)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_are_of_each_class_in_turn(model):
    samples = model.written_texts(5)
    assert [sample.condition for sample in samples] == ["early", "early", "early", "late", "late"]


def test_memory_of_a_step_is_kept_per_text(model):
    """A beam's hypotheses share the class of their text."""
    state = model.start(2)
    token = torch.full((2, 1), BOS)
    output = model.step(token, state, Given(torch.tensor([0, 1])))
    assert output.logits.shape == (2, 1, 9)
    assert not torch.allclose(output.logits[0], output.logits[1])
