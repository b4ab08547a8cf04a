"""What every model of the family seq2seq must do: learn to copy and to reverse a string."""

from typing import NamedTuple

import pytest
import torch
from torch import optim

from dlarch import create_data, list_models
from dlarch.data import pairs
from dlarch.data.generators import sequences
from dlarch.spec import BOS, PAD
from dlarch.tasks.teacher_forcing import sampled_features

FAMILY = list_models(family="seq2seq")


class Learning(NamedTuple):
    """Sizes, peak of the learning rate and steps with which a model learns a string."""

    sizes: dict[str, int]
    rate: float
    steps: int


SMALL = {"embedding_size": 32, "hidden_size": 64}
ONE_VECTOR = {"embedding_size": 32, "hidden_size": 128}  # the string must go through it
FEW_LAYERS = {"encoder_layers": 2, "decoder_layers": 2}

LEARNING = {
    "seq2seq": Learning(ONE_VECTOR | {"layers": 1}, 5e-3, 1200),
    "seq2seq_context": Learning(ONE_VECTOR, 5e-3, 1200),
    "seq2seq_attn": Learning(SMALL | {"encoder_size": 32}, 1e-2, 300),
    "seq2seq_luong": Learning(SMALL, 1e-2, 400),
    "conv_seq2seq": Learning(SMALL | {"embedding_size": 64} | FEW_LAYERS, 2e-3, 600),
    "transformer": Learning(
        {"hidden_size": 64, "layers": 2, "heads": 4, "feedforward_size": 128}, 2e-3, 450
    ),
}
"""What is enough for each model, in a quarter of a minute or half of one."""


@pytest.fixture
def short_strings(monkeypatch):
    """Strings of one to eight of ten letters."""

    def shortened(make):
        def pairs_of(**options):
            return make("abcdefghij", max_length=8, validation=200, test=500, **options)

        return pairs_of

    for name in ("copy", "reverse"):
        make = shortened(getattr(sequences, f"{name}_pairs"))
        monkeypatch.setitem(pairs.GENERATORS, name, make)


@pytest.mark.slow
@pytest.mark.parametrize("source", [pytest.param("copy", marks=pytest.mark.long), "reverse"])
@pytest.mark.parametrize("subject", FAMILY, indirect=True)
def test_strings_are_learnt(subject, source, trainer, short_strings):
    data = create_data("translation", source=source, train_size=30_000, batch_size=64)
    sizes, rate, steps = LEARNING[subject.name]
    torch.manual_seed(1)
    model = subject.cls(
        **sizes,
        optimizer=lambda parameters: optim.Adam(parameters, lr=rate),
        scheduler=lambda optimizer: optim.lr_scheduler.OneCycleLR(optimizer, rate, steps),
        pictures=False,
    )
    fit = trainer(max_steps=steps, max_epochs=-1, gradient_clip_val=1.0, limit_val_batches=0)
    fit.fit(model, datamodule=data)
    scores = trainer().test(model, datamodule=data, verbose=False)[0]
    assert scores["test/exact_match"] >= 0.98


@pytest.mark.parametrize("subject", FAMILY, indirect=True)
def test_one_token_at_a_time_equals_the_whole_target(subject):
    batch = subject.example()[1]
    model = subject.make().eval()
    with torch.no_grad():
        memory = model.encode(batch.source)
        whole = model.decode(batch.target, memory, with_attention=True)
        logits = model.project(whole.features)
        state = model.first_state(memory)
        for step in range(batch.target.shape[1]):
            output = model.step(batch.target[:, step, None], state, memory)
            state = output.state
            torch.testing.assert_close(output.logits[:, 0], logits[:, step], atol=1e-5, rtol=1e-5)
            if whole.attention is not None:
                looks = whole.attention[:, step]
                torch.testing.assert_close(output.attention[:, 0], looks, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("subject", FAMILY, indirect=True)
def test_hypotheses_score_as_their_whole_targets_do(subject):
    """Those of a beam change places at each step; with them go their states."""
    batch = subject.example()[1]
    model = subject.make().eval()
    count = 4
    found = model.search(
        batch.source,
        beam=count,
        n_best=count,
        length_penalty=0.0,
        max_length=7,
        return_attention=True,
    )
    assert found.scores.isfinite().all()
    begin = torch.full((len(batch.source), 1), BOS)
    for rank in range(count):
        tokens = found.tokens[:, rank]
        fed = torch.cat((begin, tokens), dim=1)[:, :-1]
        outputs = model(batch.source, fed)
        taken = outputs.logits.log_softmax(-1).gather(2, tokens[..., None])[..., 0]
        score = taken.masked_fill(tokens == PAD, 0.0).sum(1)
        torch.testing.assert_close(found.scores[:, rank], score, atol=1e-5, rtol=1e-5)
        if found.attention is not None:
            real = (tokens != PAD)[..., None]
            looks = outputs.attention.masked_fill(~real, 0.0)
            torch.testing.assert_close(found.attention[:, rank], looks, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("subject", FAMILY, indirect=True)
def test_greedy_decoding_writes_what_the_whole_target_predicts(subject):
    """Its tokens, fed to `forward`, are the best guesses at every step."""
    source = subject.example()[1].source
    model = subject.make().eval()
    tokens = model.search(source, max_length=8).tokens[:, 0]
    begin = torch.full((len(source), 1), BOS)
    logits = model(source, torch.cat((begin, tokens), dim=1)[:, :-1]).logits
    logits[..., [PAD, BOS]] = -torch.inf
    real = tokens != PAD
    assert real.any(1).all()
    assert torch.equal(logits.argmax(-1)[real], tokens[real])


@pytest.mark.parametrize("subject", FAMILY, indirect=True)
def test_a_future_token_does_not_change_earlier_logits(subject):
    batch = subject.example()[1]
    model = subject.make().eval()
    vocabulary = subject.example()[0].target_vocab_size
    for position in range(1, batch.target.shape[1]):
        changed = batch.target.clone()
        changed[:, position] = (changed[:, position] + 1) % vocabulary
        before = subject.outputs(model, batch)[0]
        after = subject.outputs(model, batch._replace(target=changed))[0]
        torch.testing.assert_close(before[:, :position], after[:, :position])
        assert not torch.isclose(before[:, position], after[:, position]).all()


@pytest.mark.parametrize("subject", FAMILY, indirect=True)
def test_attention_is_a_distribution_over_real_tokens(subject):
    batch = subject.example()[1]
    attention = subject.make().eval()(batch.source, batch.target).attention
    if attention is None:
        pytest.skip("this model attends to nothing")
    torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
    hidden = (batch.source == 0)[:, None].expand_as(attention)
    assert hidden.any()
    assert attention[hidden].eq(0).all()


@pytest.mark.parametrize("subject", FAMILY, indirect=True)
def test_maps_of_attention_are_those_of_each_layer_and_head(subject):
    batch = subject.example()[1]
    model = subject.make().eval()
    whole = model(batch.source, batch.target).attention
    maps = model.attention_maps(batch.source, batch.target)
    if whole is None:
        assert maps is None
        return
    assert maps.shape[-2:] == whole.shape[-2:]
    torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))


@pytest.mark.parametrize("subject", FAMILY, indirect=True)
def test_without_teacher_forcing_the_model_reads_its_own_best_tokens(subject):
    batch = subject.example()[1]
    model = subject.make()
    memory = model.encode(batch.source)
    features = sampled_features(model, batch.target, memory, share=0.0)
    state, token, logits = model.first_state(memory), batch.target[:, :1], []
    for _ in range(batch.target.shape[1]):
        found, state, _ = model.step(token, state, memory)
        logits.append(found[:, 0])
        token = found.argmax(-1)
    torch.testing.assert_close(model.project(features), torch.stack(logits, 1))


@pytest.mark.parametrize("subject", FAMILY, indirect=True)
def test_a_full_share_of_the_reference_is_the_whole_target(subject):
    batch = subject.example()[1]
    model = subject.make()
    memory = model.encode(batch.source)
    sampled = sampled_features(model, batch.target, memory, share=1.0)
    whole = model.decode(batch.target, memory).features
    torch.testing.assert_close(sampled, whole, atol=1e-5, rtol=1e-5)
