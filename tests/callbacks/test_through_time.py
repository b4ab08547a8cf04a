"""The gradient by time step is that of a loop written by hand, and of the training itself."""

import pytest
import torch
from torch import nn, optim

import dlarch
from dlarch.batches import SequenceBatch, TextBatch
from dlarch.callbacks.through_time import (
    GradientThroughTime,
    ThroughTime,
    gradients_through_time,
    through_time_figure,
)
from dlarch.nn import StatesOfLayer, recurrent

CELLS = pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])


def make(cell="gru", **options):
    torch.manual_seed(0)
    facts = {"in_features": 2, "out_features": 1, "hidden_size": 6, "cell": cell} | options
    # Plain gradient descent without a step: the weights stay what they are.
    return dlarch.create_model(
        "rnn_regressor", optimizer=lambda parameters: optim.SGD(parameters, lr=0.0), **facts
    )


def examples(steps=9):
    generator = torch.Generator().manual_seed(1)
    sequence = torch.randn(5, steps, 2, generator=generator)
    return SequenceBatch(sequence, torch.randn(5, 1, generator=generator))


class Loader(torch.utils.data.IterableDataset):
    """One batch, twice."""

    def __init__(self, batch):
        self.batch = batch

    def __iter__(self):
        return iter([self.batch, self.batch])

    def __len__(self):
        return 2


def seen(runs, model, batch, **options):
    """What the callback saw in a fit on a batch."""
    callback = GradientThroughTime()
    runs.trainer(callback, max_epochs=1, log_every_n_steps=1, **options).fit(model, Loader(batch))
    return callback.last


def by_hand(cell, model, batch):
    """Norms of the gradients in a loop over torch's own cell."""
    kind = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}[cell]
    step = kind(2, 6)
    step.load_state_dict(
        {name.removesuffix("_l0"): value for name, value in model.recurrent.state_dict().items()}
    )
    state, kept = None, []
    for inputs in batch.sequence.unbind(1):
        state = step(inputs, state)
        remembered = state[1] if cell == "lstm" else state
        remembered.retain_grad()
        kept.append(remembered)
    hidden = state[0] if cell == "lstm" else state
    (model.output(hidden) - batch.target).square().mean().backward()
    return [float(each.grad.norm()) for each in kept]


@CELLS
@pytest.mark.parametrize("backend", ["written", "torch"])
def test_gradients_are_those_of_a_loop_written_by_hand(cell, backend, runs):
    model, batch = make(cell, cell_backend=backend), examples()
    found = seen(runs, model, batch)
    assert found.step == 1  # the second of two
    assert found.layers == {"layer 1": pytest.approx(by_hand(cell, model, batch), rel=1e-4)}


def test_gradients_of_the_simple_cell_are_a_product_of_its_jacobians(runs):
    """By the chain rule: back through a step they meet 1 - h^2, then the transpose of U."""
    model, batch = make("rnn"), examples()
    found = seen(runs, model, batch).layers["layer 1"]
    with torch.no_grad():
        states, _ = model.recurrent(batch.sequence)
        error = 2 * (model.output(states[:, -1]) - batch.target) / len(batch.target)
        gradient = error @ model.output.weight
        wanted = [gradient.norm()]
        for step in range(states.shape[1] - 1, 0, -1):
            gradient = (gradient * (1 - states[:, step] ** 2)) @ model.recurrent.weight_hh_l0
            wanted.append(gradient.norm())
    assert found == pytest.approx([float(norm) for norm in reversed(wanted)], rel=1e-4)


def test_an_identity_of_rectified_linear_units_keeps_the_gradient_as_it_is(runs):
    model = make("rnn", nonlinearity="relu", recurrent_init="identity")
    with torch.no_grad():
        model.recurrent.bias_hh_l0.fill_(50.0)  # all units stay above 0
    norms = seen(runs, model, examples(40)).layers["layer 1"]
    assert norms == pytest.approx([norms[-1]] * 40, rel=1e-4)


def test_texts_of_different_lengths_and_both_directions_are_looked_at(runs):
    torch.manual_seed(0)
    model = dlarch.create_model(
        "rnn_classifier", vocab_size=9, num_classes=2, hidden_size=5, layers=2, bidirectional=True
    )
    tokens = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0], [2, 3, 0, 0, 0]])
    found = seen(runs, model, TextBatch(tokens, torch.tensor([0, 1, 1]))).layers
    assert list(found) == [
        "layer 1", "layer 1, from the end", "layer 2", "layer 2, from the end",
    ]  # fmt: skip
    assert {len(norms) for norms in found.values()} == {5}
    # The last layer from the end is read at the first token, where it has seen all others.
    assert found["layer 2, from the end"][0] == max(found["layer 2, from the end"])
    assert all(norm > 0 for norm in found["layer 1"])


def test_looking_changes_nothing_and_leaves_nothing_behind(runs, tmp_path):
    batch = examples()
    weights = []
    for callbacks in ([], [GradientThroughTime()]):
        model = make(pictures=False)
        model.make_optimizer = lambda parameters: optim.SGD(parameters, lr=0.1)
        runs.trainer(*callbacks, max_epochs=2, log_every_n_steps=1).fit(model, Loader(batch))
        weights.append([value.detach() for value in model.parameters()])
    for one, other in zip(*weights, strict=True):
        assert torch.equal(one, other)
    assert recurrent._watchers == []


def test_a_step_that_fails_is_watched_no_longer(runs):
    class Broken(type(make())):
        def training_step(self, batch, _):
            raise RuntimeError("broken")

    model = Broken(in_features=2, out_features=1)
    with pytest.raises(RuntimeError, match="broken"):
        seen(runs, model, examples())
    assert recurrent._watchers == []


def test_the_picture_is_drawn_at_a_validation_and_only_of_recurrent_networks(runs, task):
    data = dlarch.create_data("adding", length=6, train_size=64, eval_size=8, batch_size=16)
    model = dlarch.create_model("rnn_regressor", data, hidden_size=4)
    runs.fit(model, datamodule=data)
    assert [event.step for event in runs.events.Images("gradients/through_time")] == [4, 8]


def test_models_without_recurrence_are_left_alone(runs, task):
    callback = GradientThroughTime()
    runs.fit(task(), callback)
    assert callback.last is None
    assert "gradients/through_time" not in runs.events.Tags()["images"]


def test_the_figure_has_a_line_for_each_look_at_each_layer():
    first = ThroughTime(49, {"layer 1": [0.001, 0.1, 1.0], "layer 2": [0.0, 0.1, 0.2]})
    last = ThroughTime(99, {"layer 1": [0.5, 0.6, 0.7], "layer 2": [0.3, 0.2, 0.1]})
    (axes,) = through_time_figure(first, last).axes
    assert axes.get_yscale() == "log"
    assert [line.get_label() for line in axes.lines] == [
        "layer 1, step 49", "layer 2, step 49", "layer 1, step 99", "layer 2, step 99",
    ]  # fmt: skip
    assert axes.lines[0].get_xydata().tolist() == [[1, 0.001], [2, 0.1], [3, 1.0]]
    (axes,) = through_time_figure(first, first).axes
    assert len(axes.lines) == 2


def test_what_has_no_gradient_is_left_out():
    untouched = [torch.zeros(2, 3, requires_grad=True) for _ in range(3)]
    assert gradients_through_time([StatesOfLayer("_l0", untouched)]) == {}


def test_gradients_whose_squares_would_be_nothing_are_told_apart():
    states = [torch.zeros(1, 2, requires_grad=True) for _ in range(3)]
    for state, size in zip(states, (0.0, 1e-30, 1.0), strict=True):
        state.grad = torch.tensor([[3 * size, 4 * size]])
    (norms,) = gradients_through_time([StatesOfLayer("_l0", states)]).values()
    assert norms == pytest.approx([0.0, 5e-30, 5.0], rel=1e-5, abs=0.0)
