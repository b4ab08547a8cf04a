"""What a decoder is fed in training."""

import pytest
import torch

from dlarch.errors import OptionError
from dlarch.tasks import TeacherForcing
from dlarch.tasks.teacher_forcing import sampled_features


@pytest.fixture
def pairs(make_model):
    """Source (B, S) and target (B, T) of mixed lengths."""
    return make_model().example(5, seed=1)[1][:2]


def test_part_of_the_tokens_is_the_models_own(make_model, pairs):
    """With half the reference fed, each later step reads one token or the other."""
    source, target = pairs
    model = make_model()
    memory = model.encode(source)
    torch.manual_seed(3)
    features = sampled_features(model, target, memory, share=0.5)
    fed = features[..., -model.hparams.embedding_size :]  # the output layer sees it too
    guesses = model.project(features)[:, :-1].argmax(-1)
    reference = torch.isclose(fed, model.target_embedding(target)).all(-1)
    own = torch.isclose(fed[:, 1:], model.target_embedding(guesses)).all(-1)
    assert reference[:, 0].all()
    assert (reference[:, 1:] | own).all()
    assert 0.2 < reference[:, 1:].float().mean() < 0.8


def test_the_share_goes_in_a_straight_line_and_stays():
    forcing = TeacherForcing(1.0, 0.5, steps=10)
    assert [forcing.share(step) for step in (0, 5, 10, 99)] == [1.0, 0.75, 0.5, 0.5]
    assert TeacherForcing(0.7).share(99) == 0.7


@pytest.mark.parametrize("asked", [(1.1, None, 5), (-0.1, None, 5), (1.0, 2.0, 5), (1.0, 0.5, 0)])
def test_what_is_no_share_is_refused(asked):
    with pytest.raises(OptionError, match="teacher_forcing"):
        TeacherForcing(*asked).checked()


def test_full_teacher_forcing_draws_no_random_numbers(make_model, make_trainer, batches):
    """Training on the reference alone ends where the same training did without the option."""

    def state_after(share):
        model = make_model(teacher_forcing=share)
        torch.manual_seed(5)
        make_trainer().fit(model, batches)
        return torch.get_rng_state()

    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert torch.equal(state_after(1.0), before)
    assert not torch.equal(state_after(0.9), before)
