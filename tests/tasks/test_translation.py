"""Scoring and showing translations."""

import pytest
import torch

from dlarch.batches import TranslationBatch
from dlarch.decoding import Hypotheses
from dlarch.errors import DataError, MismatchError, OptionError
from dlarch.models.seq2seq.transformer import Transformer
from dlarch.processing import TextProcessor, TranslationProcessor
from dlarch.spec import BOS, EOS, PAD, UNK
from dlarch.tasks import teacher_forcing, translation


@pytest.fixture
def searched(monkeypatch):
    """Sources that a model is asked to translate; each translation is one EOS."""

    def watch(model):
        rows = []

        def search(source, return_attention=False, **_):
            rows.append(len(source))
            return Hypotheses(torch.full((len(source), 1, 1), EOS), torch.zeros(len(source), 1))

        monkeypatch.setattr(model, "search", search)
        return rows

    return watch


def test_free_decoding_covers_the_first_of_validation_and_all_of_test(
    make_model, make_trainer, make_data, searched, monkeypatch
):
    monkeypatch.setattr(translation, "DECODED_IN_VALIDATION", 130)
    data, model = make_data(), make_model(facts=False)
    trainer = make_trainer()
    rows = searched(model)
    trainer.validate(model, datamodule=data, verbose=False)
    assert len(data.dataset("validation")) == 1000
    assert sum(rows) == 130
    rows.clear()
    trainer.test(model, datamodule=data, verbose=False)
    assert sum(rows) == len(data.dataset("test")) == 1000


@pytest.mark.parametrize(
    ("tokens", "headline"), [("characters", "test/exact_match"), ("words", "test/bleu")]
)
def test_what_is_spelt_is_told_by_exact_match(
    make_model, make_trainer, make_data, searched, tokens, headline
):
    model = make_model(facts=False)
    searched(model)
    trainer = make_trainer(limit_test_batches=1)
    trainer.test(model, datamodule=make_data(tokens=tokens), verbose=False)
    assert model.headline == headline


def word_model(make_model, searched_ids):
    """A model with a vocabulary of three words, which translates as it is told."""
    words = TextProcessor.train(["the black cat"], "words", lowercase=True)
    model = make_model(source_vocab_size=words.vocab_size, target_vocab_size=words.vocab_size)
    model.processor = TranslationProcessor(words, words, "en", "en")
    ids = [[*model.processor.target.encode(text), EOS] for text in searched_ids]
    longest = max(map(len, ids))
    found = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in ids])[:, None]
    model.search = lambda source, **_: Hypotheses(found, torch.zeros(len(source), 1))
    return model


def scores(model, make_trainer, batch):
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    return make_trainer().test(model, loader, verbose=False)[0]


@pytest.mark.parametrize("written", [True, False], ids=["texts", "ids alone"])
def test_an_unknown_word_in_the_reference_cannot_be_matched(make_model, make_trainer, written):
    """Else `the UNK cat` would be the same as `the cat`, special ids being left out."""
    model = word_model(make_model, ["the cat", "the black cat", "the black cat"])
    texts = ["the Siamese cat", "the black cat", "The black  cat"]
    batch = model.processor.encode([(text, text) for text in texts])
    assert (batch.target[0] == UNK).sum() == 1
    if not written:
        batch = batch._replace(source_text=None, target_text=None)
    assert scores(model, make_trainer, batch)["test/exact_match"] == pytest.approx(2 / 3)


def test_the_edit_distance_is_that_of_characters_in_the_mean(make_model, make_trainer):
    model = word_model(make_model, ["the black cat", "the cat"])
    batch = model.processor.encode([(text, text) for text in ("the black cat", "the bats")])
    assert scores(model, make_trainer, batch)["test/edit_distance"] == pytest.approx(2 / 2)


def test_the_samples_are_the_first_examples_whatever_order_they_come_in(
    make_model, make_trainer, make_data
):
    model, data = make_model(facts=False), make_data()
    make_trainer().validate(model, datamodule=data, verbose=False)
    split = data.dataset("validation")
    samples = model.translation_samples(5)
    assert [(s.source, s.reference) for s in samples] == [split.pair(row) for row in range(5)]
    again = model.translation_samples(5)
    assert [s.translation for s in samples] == [s.translation for s in again]
    for sample in samples:
        assert sample.source_tokens[:-1] == list(sample.source)
        assert sample.attention.shape == (len(sample.target_tokens), len(sample.source_tokens))
        torch.testing.assert_close(sample.attention.sum(-1), torch.ones(len(sample.target_tokens)))


def test_a_part_of_the_split_has_samples_too(make_model, make_trainer, make_data):
    """The first batches are the shortest sentences, perhaps none of the split's first."""
    model, data = make_model(facts=False), make_data()
    make_trainer(limit_val_batches=2).validate(model, datamodule=data, verbose=False)
    seen = sorted(row for index in data.evaluation_plan("validation")[:2] for row in index)
    split = data.dataset("validation")
    samples = model.translation_samples(99)
    assert [(s.source, s.reference) for s in samples] == [split.pair(row) for row in seen[:16]]
    assert seen[15] > 16


def test_teacher_forcing_goes_from_start_to_end(make_model, make_trainer, batches, monkeypatch):
    shares = []
    model = make_model(teacher_forcing=1.0, teacher_forcing_end=0.2, teacher_forcing_steps=4)

    def watch(model, target, memory, share):
        shares.append(share)
        return teacher_forcing.sampled_features(model, target, memory, share)

    monkeypatch.setattr(translation, "sampled_features", watch)
    make_trainer(max_epochs=2).fit(model, batches)
    assert shares == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.2, 0.2, 0.2])  # all of it at first


def test_validation_feeds_the_reference_whatever_training_does(make_model, make_trainer, batches):
    losses = [
        make_trainer().validate(make_model(teacher_forcing=share), batches, verbose=False)[0]
        for share in (1.0, 0.0)
    ]
    assert losses[0]["val/loss"] == losses[1]["val/loss"]


def test_examples_fit_their_spec(make_model):
    model = make_model()
    spec, batch = model.example(6, seed=2)
    assert spec.facts() == {"source_vocab_size": 11, "target_vocab_size": 13}
    again = model.example(6, seed=2)[1]
    assert torch.equal(batch.source, again.source)
    assert not torch.equal(
        batch.source, model.example(6, seed=3)[1].source[:, : batch.source.shape[1]]
    )
    assert batch.source.max() < 11
    assert batch.target.max() < 13
    assert batch.target[:, 0].eq(BOS).all()
    for side in (batch.source, batch.target):
        ends = (side != PAD).sum(1) - 1
        assert side.gather(1, ends[:, None]).eq(EOS).all()
        assert (side == EOS).sum() == 6


def test_translating_text_needs_a_processor(make_model):
    with pytest.raises(MismatchError, match="no processor"):
        make_model().translate(["a"])


def test_translations_come_in_the_order_of_the_texts(make_model, make_data):
    data = make_data()
    data.prepare_data()
    data.setup()
    model = make_model(facts=False, source_vocab_size=30, target_vocab_size=30)
    model.processor = data.processor
    texts = ["abcdefgh", "a", "hello", "zz", "qwertz", "b"]
    together = model.translate(texts, batch_size=2, max_length=6)
    assert together == [model.translate([text], max_length=6)[0] for text in texts]
    assert len(set(together)) > 1
    beams = model.translate(texts, beam=4, n_best=3, max_length=6)
    assert [len(found) for found in beams] == [3] * 6
    sampled = [model.translate(texts, temperature=1.0, seed=1, max_length=6) for _ in range(2)]
    assert sampled[0] == sampled[1]
    assert model.training


def test_predictions_are_texts(make_model, make_trainer, make_data):
    data = make_data()
    model = make_model(facts=False)
    trainer = make_trainer(limit_predict_batches=2)
    predicted = trainer.predict(model, datamodule=data)
    assert [len(batch) for batch in predicted] == [16, 16]
    assert all(isinstance(text, str) for batch in predicted for text in batch)


def test_test_and_predict_search_as_they_are_told(make_model, make_trainer, make_data, monkeypatch):
    monkeypatch.setattr(translation, "DECODED_IN_VALIDATION", 8)
    data, model, asked = make_data(), make_model(facts=False), []
    search = model.search

    def watched(source, **options):
        asked.append(options)
        return search(source, max_length=3, **options)

    model.search = watched
    model.decode_with(beam=3, length_penalty=0.5)
    trainer = make_trainer(limit_test_batches=1, limit_predict_batches=1)
    trainer.test(model, datamodule=data, verbose=False)
    trainer.predict(model, datamodule=data)
    assert asked[0] == asked[-1] == {"beam": 3, "length_penalty": 0.5}
    asked.clear()
    trainer.validate(model, datamodule=data, verbose=False)
    assert asked
    assert all("beam" not in options for options in asked)
    with pytest.raises(OptionError, match="beam must be a whole number from 1 up, not 0"):
        model.decode_with(beam=0)


def test_a_batch_keeps_its_optional_fields_apart():
    batch = TranslationBatch(torch.tensor([[4, EOS, PAD]]), torch.tensor([[BOS, 5, EOS]]))
    assert batch.source_mask.tolist() == [[True, True, False]]
    assert batch.target_mask.all()
    assert batch.example is batch.source_text is batch.target_text is None


def test_pairs_longer_than_the_model_are_refused_before_training(make_trainer, make_data):
    def fit(positions, **options):
        data = make_data(**options)
        model = Transformer(hidden_size=8, layers=1, heads=2, positions=positions)
        make_trainer(max_steps=1, limit_val_batches=0).fit(model, datamodule=data)

    fit(21)  # twenty letters and the end
    said = "split train takes 21 positions, but the model has 20: give --model.positions 21, or"
    with pytest.raises(DataError, match=f"{said} --data.max_length 19."):
        fit(20)
    with pytest.raises(DataError, match=r"split validation .* give --model.positions 21\.$"):
        fit(20, max_length=19)
