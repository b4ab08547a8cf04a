"""Long texts in windows: the state goes on, exactly, through validation, training and resuming."""

import random

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

import dlarch
from dlarch import create_data, create_model
from dlarch.batches import TextBatch
from dlarch.spec import BOS, PAD
from dlarch.tasks import LanguageModel

CELLS = pytest.mark.parametrize("cell", ["gru", "lstm"])


@pytest.fixture
def corpus(tmp_path, session_cache, monkeypatch):
    """Data modules of one text of about 3,000 letters."""
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    words = random.Random(0).choices(["abc", "bad", "cab", "dab", "add"], k=800)
    (tmp_path / "text.txt").write_text(" ".join(words))

    def make(**options):
        defaults = {"source": str(tmp_path / "text.txt"), "window": 16, "batch_size": 4}
        data = create_data("text_corpus", **defaults | options)
        data.prepare_data()
        data.setup("fit")
        return data

    return make


def make(data, **options):
    torch.manual_seed(0)
    return create_model("char_rnn", data, hidden_size=12, embedding_size=5, **options)


@torch.no_grad()
def whole_loss(model, ids):
    """Of a text that is read in one go from BOS."""
    row = torch.cat((torch.tensor([BOS]), ids))
    logits = model.eval()(row[None, :-1])[0]
    return float(F.cross_entropy(logits, row[1:]))


@CELLS
def test_validation_scores_each_token_with_its_whole_past(cell, corpus, make_trainer):
    data = corpus()
    model = make(data, cell=cell)
    ids = torch.from_numpy(data.dataset("validation").tokens.tokens[1:].astype("int64"))
    expected = whole_loss(model, ids)
    found = make_trainer().validate(model, datamodule=data, verbose=False)[0]["val/loss"]
    assert found == pytest.approx(expected, abs=1e-5)
    # The second time it begins anew, and so it does whatever the window.
    for again in (data, corpus(window=50)):
        scored = make_trainer().validate(model, datamodule=again, verbose=False)[0]
        assert scored["val/loss"] == pytest.approx(expected, abs=1e-5)
    reset = corpus(reading="windows")
    scored = make_trainer().validate(model, datamodule=reset, verbose=False)[0]
    assert scored["val/loss"] != pytest.approx(expected, abs=1e-4)


@CELLS
def test_training_goes_on_in_the_state_of_the_batch_before(cell, corpus, make_trainer):
    """By hand: with a learning rate of 0 each stream is one text, read from its BOS."""
    data = corpus()
    model = make(data, cell=cell, optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    losses, batches = [], []
    step = model.training_step

    def watched(*arguments):
        batches.append(arguments[0])
        losses.append(step(*arguments))
        return losses[-1]

    model.training_step = watched
    make_trainer(limit_val_batches=0).fit(model, datamodule=data)
    assert len(batches) > 5
    rows = [
        torch.cat([b.tokens[row, 1:] for b in batches if row < len(b.tokens)]) for row in (0, 3)
    ]
    for row, ids in zip((0, 3), rows, strict=True):
        logits = model.eval()(torch.cat((torch.tensor([BOS]), ids))[None, :-1])[0]
        together = F.cross_entropy(logits, ids, reduction="none").split(16)
        for index in (0, 4):
            batch = batches[index]
            state = _state_before(model, batches[:index], batch)
            features, _ = model.read(batch.tokens[:, :-1], state, model._given(None))
            mine = F.cross_entropy(
                model.project(features)[row], batch.tokens[row, 1:], reduction="none"
            )
            torch.testing.assert_close(mine, together[index], atol=1e-5, rtol=1e-5)
            everything = F.cross_entropy(
                model.project(features).flatten(0, 1), batch.tokens[:, 1:].flatten()
            )
            assert losses[index].item() == pytest.approx(float(everything), abs=1e-5)


def _state_before(model, earlier, batch):
    state = model.start(len(batch.tokens))
    for each in earlier:
        _, state = model.read(each.tokens[:, :-1], state, model._given(None))
    return state


def test_a_row_that_begins_has_no_past_and_gradients_end_at_the_window(corpus):
    data = corpus()
    model = make(data)
    model.eval()
    tokens = torch.randint(4, 8, (2, 5))

    begins = TextBatch(tokens, goes_on=torch.tensor([False, False]))
    ended = model._predict(begins, None)[2]
    assert not ended.hidden.requires_grad
    logits, _, _ = model._predict(TextBatch(tokens, goes_on=torch.tensor([True, False])), ended)
    fresh, _, _ = model._predict(begins, ended)
    logits, fresh = logits.unflatten(0, (2, 4)), fresh.unflatten(0, (2, 4))
    assert not torch.allclose(logits[0], fresh[0])
    torch.testing.assert_close(logits[1], fresh[1])
    # Texts that say nothing of it always begin.
    plain, _, kept = model._predict(TextBatch(tokens), ended)
    torch.testing.assert_close(plain.unflatten(0, (2, 4)), fresh)
    assert kept is None


@CELLS
def test_a_run_that_is_resumed_within_an_epoch_has_its_state_again(cell, corpus):
    options = {
        "test_after_fit": False, "enable_progress_bar": False, "logger": False,
        "accelerator": "cpu", "devices": 1, "limit_val_batches": 2,
    }  # fmt: skip

    def fit(name, steps, **more):
        data = corpus()
        model = make(data, cell=cell)
        return model, dlarch.fit(model, data, name=name, max_steps=steps, **options, **more).run

    whole, _ = fit("whole", 7)
    _, half = fit("half", 4)
    resumed, _ = fit("half", 7, ckpt_path=half.folder)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    saved = torch.load(half.last, weights_only=True)["dlarch"]["state"]
    assert [part.shape[0] for part in saved[0]] == [4] * (2 if cell == "lstm" else 1)


def test_a_lost_state_is_found(corpus, monkeypatch):
    """What the test above is there for."""
    standing = LanguageModel._standing

    def forgetful(self):
        self._saved_state = None
        return standing(self)

    monkeypatch.setattr(LanguageModel, "_standing", forgetful)
    with pytest.raises(AssertionError):
        test_a_run_that_is_resumed_within_an_epoch_has_its_state_again("gru", corpus)


def test_padding_at_the_end_of_a_stream_is_not_read(corpus):
    model = make(corpus()).eval()
    tokens = torch.tensor([[BOS, 4, 5, 6], [BOS, 5, PAD, PAD]])
    begins = TextBatch(tokens, goes_on=torch.tensor([False, False]))
    _, targets, state = model._predict(begins, None)
    assert targets.tolist() == [4, 5, 6, 5]
    alone = model.read(torch.tensor([[BOS, 5]]), model.start(1), model._given(None))[1]
    torch.testing.assert_close(state.hidden[1], alone.hidden[0])
