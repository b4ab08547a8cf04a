"""N-grams in a fit: against a dictionary of counts, in any cut, and when written with."""

import itertools
import math
from collections import Counter

import lightning as L  # noqa: N812
import pytest
import torch
from torch.utils.data import DataLoader

from dlarch import AutoModel, create_data, create_model
from dlarch.errors import OptionError
from dlarch.nn import KneserNey
from dlarch.processing.translation import pad
from dlarch.spec import BOS, EOS, PAD, UNK
from dlarch.tasks import Given

VOCABULARY = 9
TEXTS = [[BOS, 4, 5, 4, 5, EOS], [BOS, 4, 6, EOS], [BOS, 7, EOS], [BOS, 4, 5, 8, EOS]]


def loader(batches):
    return DataLoader(batches, batch_size=None)


def quiet_trainer(folder, **options):
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "max_epochs": 1,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    return L.Trainer(**defaults | options)


def fitted(folder, texts=TEXTS, size=2, epochs=1, **options):
    model = create_model("ngram", vocab_size=VOCABULARY, pictures=False, **options)
    batches = [(pad(texts[first : first + size]),) for first in range(0, len(texts), size)]
    quiet_trainer(folder, max_epochs=epochs).fit(model, loader(batches), loader(batches))
    return model.eval()


def test_probabilities_are_those_of_a_dictionary_of_counts(tmp_path):
    model = fitted(tmp_path, order=2, add=0.5)
    counts = Counter((a, b) for text in TEXTS for a, b in itertools.pairwise(text))
    known = [UNK, EOS, *range(4, VOCABULARY)]
    found = model(torch.tensor([[BOS, 4, 5]])).exp()[0]
    for place, before in enumerate((BOS, 4, 5)):
        total = sum(counts[before, after] for after in known) + 0.5 * len(known)
        for after in known:
            expected = (counts[before, after] + 0.5) / total
            assert float(found[place, after]) == pytest.approx(expected)
    assert found[:, [PAD, BOS]].eq(0).all()


@pytest.mark.parametrize("order", [1, 2, 4])
def test_a_fit_makes_the_tables_of_all_texts_however_they_are_cut(order, tmp_path):
    reference = KneserNey(order, VOCABULARY, 0.6)
    reference.update(pad(TEXTS))
    reference.finish()
    tokens = pad(TEXTS)
    expected = reference.score(tokens)
    for size, epochs in ((4, 1), (1, 1), (3, 2)):
        model = fitted(tmp_path, size=size, epochs=epochs, order=order, discount=0.6)
        logits = model(tokens[:, :-1])
        found = logits.gather(2, tokens[:, 1:, None])[..., 0]
        real = tokens[:, 1:] != PAD
        torch.testing.assert_close(found[real], expected[real])


def test_training_loss_is_that_of_a_batch_before_it_is_counted(tmp_path):
    model = create_model("ngram", vocab_size=VOCABULARY, order=1, add=1.0, pictures=False)
    losses = []
    step = model.training_step
    model.training_step = lambda *arguments: losses.append(step(*arguments)) or losses[-1]
    batches = loader([(pad([[BOS, 4, 4, EOS]]),), (pad([[BOS, 4, EOS]]),)])
    quiet_trainer(tmp_path).fit(model, batches)
    assert losses[0].item() == pytest.approx(math.log(7))
    # Of three tokens so far two were 4 and one was the end; one is added to each of seven kinds.
    assert losses[1].item() == pytest.approx(-(math.log(3 / 10) + math.log(2 / 10)) / 2)


@pytest.mark.parametrize("order", [1, 3])
def test_token_by_token_is_the_whole(order, tmp_path):
    model = fitted(tmp_path, order=order)
    tokens = pad([[BOS, 4, 5, 4, 5], [BOS, 7, 4, 6, 8]])
    logits, state, given = model(tokens), model.start(2), Given(None)
    for place in range(5):
        output = model.step(tokens[:, place : place + 1], state, given)
        state = output.state
        torch.testing.assert_close(output.logits[:, 0], logits[:, place])


def test_validation_amid_an_epoch_knows_what_was_read_so_far(tmp_path):
    model = create_model("ngram", vocab_size=VOCABULARY, order=1, add=1.0, pictures=False)
    seen = []
    step = model.validation_step
    model.validation_step = lambda *arguments: (
        step(*arguments), seen.append(float(model(torch.tensor([[BOS]])).exp()[0, 0, 4]))
    )  # fmt: skip
    train = loader([(pad([[BOS, 4, EOS]]),) for _ in range(6)])
    trainer = quiet_trainer(tmp_path, val_check_interval=3)
    trainer.fit(model, train, loader([(pad([[BOS, 4, EOS]]),)]))
    assert seen == pytest.approx([4 / 13, 7 / 19])


def test_it_writes_names_and_is_saved_with_its_tables(tmp_path):
    data = create_data("names", locales=["fi_FI"], train_size=200)
    model = create_model("ngram", data, order=3, pictures=False)
    quiet_trainer(tmp_path).fit(model, datamodule=data)
    names = model.generate(20, seed=1)
    assert names == model.generate(20, seed=1)
    assert len(set(names)) > 10
    model.save_pretrained(tmp_path / "saved")
    again = AutoModel.from_pretrained(tmp_path / "saved")
    assert again.generate(20, seed=1) == names


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"gradient_clip_val": 1.0}, "without gradients"),
        ({"accumulate_grad_batches": 2}, "without gradients"),
        ({"devices": 2, "strategy": "ddp_spawn"}, "one process"),
    ],
)
def test_options_that_have_nothing_to_work_on(trainer, message, tmp_path):
    model = create_model("ngram", vocab_size=VOCABULARY, pictures=False)
    if trainer.get("devices") == 2:
        model.trainer = type("Trainer", (), {"world_size": 2, "datamodule": None})()
        with pytest.raises(OptionError, match=message):
            model.setup("fit")
        return
    with pytest.raises(OptionError, match=message):
        quiet_trainer(tmp_path, **trainer).fit(model, loader([(pad(TEXTS),)]))
