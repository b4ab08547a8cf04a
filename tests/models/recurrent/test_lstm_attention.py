"""Weights of words: computed by hand, exactly 0 on padding, the mean where nothing was learned."""

import torch

from dlarch import create_model
from dlarch.processing.translation import pad
from dlarch.spec import BOS, EOS, PAD

ROWS = [[BOS, 5, 6, 7, 8, EOS], [BOS, 9, EOS], [BOS, 4, 10, 11, EOS]]


def make(**options):
    torch.manual_seed(0)
    options = {"hidden_size": 6, "attention_size": 5, "embedding_size": 8} | options
    return create_model("lstm_attention", vocab_size=20, num_classes=3, **options).eval()


def test_equals_the_equations_on_each_text_alone():
    model = make(layers=2)
    key, question = model.weigh_states.key, model.weigh_states.question
    with torch.no_grad():
        found, weights = model(pad(ROWS)), model.word_weights(pad(ROWS))
        for row, logits, shares in zip(ROWS, found, weights, strict=True):
            states, _ = model.recurrent(model.embedding(torch.tensor([row])))
            energies = [
                question.weight[0] @ torch.tanh(key.weight @ s + key.bias) for s in states[0]
            ]
            powers = torch.stack(energies).exp()
            alpha = powers / powers.sum()
            torch.testing.assert_close(shares[: len(row)], alpha, atol=1e-6, rtol=1e-5)
            summed = sum(a * s for a, s in zip(alpha, states[0], strict=True))
            wanted = model.output.weight @ summed + model.output.bias
            torch.testing.assert_close(logits, wanted, atol=1e-6, rtol=1e-5)


def test_weights_on_padding_are_exactly_zero_and_the_others_add_up_to_one():
    model, tokens = make(), pad(ROWS)
    for wide in (tokens, torch.nn.functional.pad(tokens, (0, 7))):
        weights = model.word_weights(wide)
        assert weights[wide == PAD].eq(0).all()
        assert weights[wide != PAD].gt(0).all()
        torch.testing.assert_close(weights.sum(1), torch.ones(3))


def test_weights_survive_energies_of_any_size():
    model = make()
    with torch.no_grad():
        model.weigh_states.question.weight.mul_(1e4)
    weights = model.word_weights(pad(ROWS))
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    assert torch.isfinite(model(pad(ROWS))).all()


def test_without_a_question_it_is_the_mean_of_lstm_classifier():
    model = make()
    with torch.no_grad():
        model.weigh_states.question.weight.zero_()
    mean = create_model(
        "lstm_classifier", vocab_size=20, num_classes=3, embedding_size=8, hidden_size=6,
        pooling="mean",
    ).eval()  # fmt: skip
    mean.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(model(pad(ROWS)), mean(pad(ROWS)))
