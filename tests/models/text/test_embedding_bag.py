"""The bag against loops and scikit-learn; naive Bayes ratios come from the training texts alone."""

import numpy as np
import pytest
import torch
from lightning import Trainer
from sklearn.naive_bayes import MultinomialNB
from torch import optim

from dlarch import create_data, create_model
from dlarch.errors import OptionError
from dlarch.hub import AutoModel
from dlarch.nn.bags import words_and_ngrams
from dlarch.processing.translation import pad
from dlarch.spec import BOS, EOS, PAD, UNK
from dlarch.tasks.counts import known_words

ROWS = [[BOS, 4, 5, 4, 6, EOS], [BOS, 9, EOS], [BOS, 7, UNK, 5, 6, 6, 8, 10, EOS], [BOS, UNK, EOS]]
VARIANTS = [
    {},
    {"ngrams": 2},
    {"ngrams": 3, "mode": "sum", "once": True},
    {"ngrams": 2, "nb_weights": True},
    {"ngrams": 2, "nb_weights": True, "mode": "sum", "once": True},
]


def make(**options):
    torch.manual_seed(0)
    model = create_model("embedding_bag", vocab_size=12, num_classes=3, buckets=50, **options)
    if model.hparams.nb_weights:
        torch.nn.init.normal_(model.trust.weight)
        torch.nn.init.normal_(model.ratios)
    return model.eval()


def by_hand(model, row):
    """The logits of a text, feature after feature."""
    options = model.hparams
    ids = words_and_ngrams(known_words(torch.tensor([row])), options.ngrams, 12, 50)[0].tolist()
    ids = [each for each in ids if each != PAD]
    ids = sorted(set(ids)) if options.once else ids
    divisor = max(len(ids), 1) if options.mode == "mean" else 1
    if options.nb_weights:
        terms = [float(model.trust.weight[each, 0]) * model.ratios[each] for each in ids]
        return sum(terms, torch.zeros(3)) / divisor + model.bias
    bag = sum((model.embedding.weight[each] for each in ids), torch.zeros(10)) / divisor
    return model.output.weight @ bag + model.output.bias


@pytest.mark.parametrize("options", VARIANTS)
@torch.no_grad()
def test_logits_are_those_of_a_loop_alone_and_in_a_batch(options):
    model = make(**options)
    batched = model(pad(ROWS))
    alone = torch.cat([model(torch.tensor([row])) for row in ROWS])
    wanted = torch.stack([by_hand(model, row) for row in ROWS])
    torch.testing.assert_close(batched, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", VARIANTS)
def test_a_text_of_unknown_words_alone_has_the_logits_of_no_evidence(options):
    model = make(**options)
    last = model.bias if model.hparams.nb_weights else model.output.bias
    torch.testing.assert_close(model(torch.tensor([[BOS, UNK, UNK, EOS]]))[0], last)


def test_what_cannot_be_is_refused():
    with pytest.raises(OptionError, match="ngrams must be at least 1, not 0"):
        create_model("embedding_bag", ngrams=0)


@pytest.fixture
def fit(tmp_path):
    def fitted(model, data):
        Trainer(
            accelerator="cpu", logger=False, max_epochs=1, enable_checkpointing=False,
            enable_model_summary=False, enable_progress_bar=False, default_root_dir=tmp_path,
        ).fit(model, datamodule=data)  # fmt: skip

    return fitted


@pytest.fixture
def data(session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    found = create_data(
        "labelled_text", tokens="words", label_column="parity", train_size=400, batch_size=50
    )
    found.prepare_data()
    found.setup()
    return found


def test_equal_weights_of_one_are_naive_bayes_of_scikit_learn(data, fit, tmp_path):
    model = create_model(
        "embedding_bag", data, nb_weights=True, mode="sum", once=True, pictures=False,
        optimizer=lambda parameters: optim.SGD(parameters, lr=0.0),
    )  # fmt: skip
    fit(model, data)
    torch.nn.init.ones_(model.trust.weight)
    size = data.spec.vocab_size

    def presence(split):
        batches = list(data.in_order(split))
        table = np.zeros((sum(len(batch.tokens) for batch in batches), size))
        row = 0
        for batch in batches:
            for tokens in batch.tokens.tolist():
                table[row, [token for token in tokens if token > EOS]] = 1
                row += 1
        return table, np.concatenate([batch.label.numpy() for batch in batches])

    table, labels = presence("train")
    seen = table.any(0)
    bayes = MultinomialNB(fit_prior=False).fit(table, labels)
    unseen = presence("validation")[0]
    # Words that no training text has are in no class more likely, up to the sums of all words.
    wanted = (unseen * seen) @ (bayes.feature_log_prob_[1] - bayes.feature_log_prob_[0])
    tokens = torch.nn.utils.rnn.pad_sequence(
        [row for batch in data.in_order("validation") for row in batch.tokens], batch_first=True
    )
    with torch.no_grad():
        logits = model.eval()(tokens)
    np.testing.assert_allclose(logits[:, 1], wanted, atol=1e-4)
    np.testing.assert_allclose(logits[:, 0], -wanted, atol=1e-4)

    model.save_pretrained(str(tmp_path / "saved"))
    loaded = AutoModel.from_pretrained(tmp_path / "saved")  # needs no data
    assert torch.equal(loaded.ratios, model.ratios)
    with torch.no_grad():
        assert torch.equal(loaded(tokens), logits)


def test_ratios_are_counted_once(data, fit):
    model = create_model("embedding_bag", data, nb_weights=True, pictures=False)
    fit(model, data)
    ratios = model.ratios.clone()
    data.dataset("train").labels[:] = 0  # would give other ratios
    fit(model, data)
    assert torch.equal(model.ratios, ratios)
