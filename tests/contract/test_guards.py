"""The guards guarded: what a test is there to find is broken on purpose, and it must fail."""

import importlib.util
import inspect
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from dlarch.data import bucketed, loading
from dlarch.models.seq2seq import seq2seq_attn
from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn
from dlarch.spec import PAD
from dlarch.tasks import TeacherForcing
from dlarch.tasks.base import Task
from dlarch.tasks.metrics import CorpusBleu, Ratio

TESTS = Path(__file__).parents[1]


def load(path: str):
    """A test module as it stands, to call its tests by hand."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, TESTS / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def check(helpers, trainer, tmp_path):
    """Call a test of the contract for seq2seq_attn; it passes before anything is broken."""
    models = load("contract/test_models.py")
    given = {"helpers": helpers, "trainer": trainer, "tmp_path": tmp_path}

    def run(name):
        test = getattr(models, name)
        names = test.__code__.co_varnames[: test.__code__.co_argcount]
        subject = helpers.Subject("seq2seq_attn")
        test(subject, **{key: given[key] for key in names if key in given})

    return run


@pytest.fixture
def equations():
    """The reference test of seq2seq_attn, with its pairs."""
    module = load("models/seq2seq/test_seq2seq_attn.py")
    pairs = Seq2SeqAttn.example(5, seed=1)[1][:2]
    return lambda: module.test_equals_the_equations_written_out_step_by_step("gru", pairs)


def unmasked(self, query, memory):
    energy = self.energy((query[:, :, None] + memory.keys[:, None]).tanh()).squeeze(-1)
    return energy.softmax(dim=-1)


MASKING = [
    "test_more_padding_changes_nothing",
    "test_an_example_alone_is_what_it_is_in_a_batch",
    "test_decoding_is_the_same_alone_and_in_a_batch",
    "test_every_metric_is_that_of_the_examples_however_they_are_batched",
]


@pytest.mark.parametrize("name", MASKING)
def test_attention_to_padding_is_found(check, monkeypatch, name):
    check(name)
    monkeypatch.setattr(Seq2SeqAttn, "attend", unmasked)
    with pytest.raises(AssertionError):
        check(name)


def test_an_encoder_that_reads_padding_is_found(check, monkeypatch):
    run = seq2seq_attn.run_recurrent

    def careless(network, inputs, mask):
        return run(network, inputs, torch.ones_like(mask))

    monkeypatch.setattr(seq2seq_attn, "run_recurrent", careless)
    with pytest.raises(AssertionError):
        check("test_more_padding_changes_nothing")


def columns_shifted(self, embedded):
    weight = self.cell.weight_ih[:, -self.hparams.embedding_size :]
    return F.linear(embedded, weight, self.cell.bias_ih)


def bias_forgotten(self, embedded):
    return F.linear(embedded, self.cell.weight_ih[:, : self.hparams.embedding_size])


@pytest.mark.parametrize("wrong", [columns_shifted, bias_forgotten])
def test_a_wrong_product_outside_the_loop_is_found(equations, monkeypatch, wrong):
    equations()
    monkeypatch.setattr(Seq2SeqAttn, "input_gates", wrong)
    with pytest.raises(AssertionError):
        equations()


def test_attention_with_the_wrong_state_is_found(equations, monkeypatch):
    """Keys of the step are fine, but the query is missing."""
    attend = Seq2SeqAttn.attend
    monkeypatch.setattr(
        Seq2SeqAttn, "attend", lambda self, query, memory: attend(self, 0 * query, memory)
    )
    with pytest.raises(AssertionError):
        equations()


def test_a_detached_path_is_found(equations, monkeypatch):
    """The values are right, the gradients are not."""
    attend = Seq2SeqAttn.attend
    monkeypatch.setattr(
        Seq2SeqAttn, "attend", lambda self, query, memory: attend(self, query.detach(), memory)
    )
    with pytest.raises(AssertionError):
        equations()


def test_a_layer_that_is_never_used_is_found(check, monkeypatch):
    build = Seq2SeqAttn.build

    def more(self, **facts):
        build(self, **facts)
        self.forgotten = torch.nn.Linear(2, 2)

    more.__signature__ = inspect.signature(build)
    check("test_every_parameter_gets_a_gradient")
    monkeypatch.setattr(Seq2SeqAttn, "build", more)
    with pytest.raises(AssertionError):
        check("test_every_parameter_gets_a_gradient")


def test_an_argument_without_effect_is_found(helpers, tmp_path, monkeypatch):
    arguments = load("contract/test_arguments.py")
    monkeypatch.setattr(TeacherForcing, "share", lambda self, step: 1.0)
    subject = helpers.Subject("seq2seq_attn")
    with pytest.raises(AssertionError, match="teacher_forcing changes nothing"):
        arguments.test_every_argument_changes_something(subject, helpers, tmp_path)


@pytest.fixture
def divisors():
    """Tests of the training loss, and the model, Trainer and batches that they ask for."""
    return load("tasks/test_training_loss.py"), load("tasks/conftest.py")


DIVISOR = [
    "test_accumulated_batches_weigh_by_their_tokens",
    "test_the_last_incomplete_window_has_its_own_divisor",
    "test_clipping_and_norms_see_the_gradient_of_the_mean",
]


@pytest.mark.parametrize("name", DIVISOR)
def test_a_mean_of_means_is_found(divisors, monkeypatch, tmp_path, name):
    tests, fixtures = divisors
    make = fixtures.__dict__
    given = {
        "make_model": _inner(make["make_model"]),
        "make_trainer": _inner(make["make_trainer"], tmp_path),
        "batches": _inner(make["batches"]),
        "union": _inner(make["union"]),
        "tmp_path": tmp_path,
    }
    test = getattr(tests, name)
    names = test.__code__.co_varnames[: test.__code__.co_argcount]
    test(**{key: given[key] for key in names})
    monkeypatch.setattr(Task, "_one_part", lambda self: True)
    with pytest.raises(AssertionError):
        test(**{key: given[key] for key in names})


def _inner(fixture, *arguments):
    """What a fixture's function gives, called by hand."""
    return fixture.__wrapped__(*arguments)


def test_unsmoothed_bleu_is_found(monkeypatch):
    metrics = load("tasks/test_metrics.py")
    metrics.test_bleu_without_any_match_of_four_is_smoothed_as_sacrebleu_does()
    init = CorpusBleu.__init__

    def plain(self, *arguments, **options):
        init(self, *arguments, **options)
        self.bleu.smooth_method = "none"

    monkeypatch.setattr(CorpusBleu, "__init__", plain)
    with pytest.raises(AssertionError):
        metrics.test_bleu_without_any_match_of_four_is_smoothed_as_sacrebleu_does()


def test_a_mean_of_batch_means_in_validation_is_found(check, monkeypatch):
    def mean_of_means(self, total, count):
        self.total = self.total + total / count
        self.count = self.count + 1

    monkeypatch.setattr(Ratio, "update", mean_of_means)
    with pytest.raises(AssertionError):
        check("test_every_metric_is_that_of_the_examples_however_they_are_batched")


def test_padding_in_the_loss_is_found(check, monkeypatch):
    predict = Seq2SeqAttn._predict

    def careless(self, batch, share=1.0):
        filled = batch.target.masked_fill(batch.target == PAD, 5)
        return predict(self, batch._replace(target=filled), share)

    monkeypatch.setattr(Seq2SeqAttn, "_predict", careless)
    with pytest.raises(AssertionError):
        check("test_every_metric_is_that_of_the_examples_however_they_are_batched")


def test_an_example_that_comes_twice_is_found(helpers, monkeypatch):
    registered = load("contract/test_registered.py")
    plan = loading.evaluation_plan

    def twice(*arguments, **options):
        batches = plan(*arguments, **options)
        return [*batches, batches[0]]

    monkeypatch.setattr(bucketed, "evaluation_plan", twice)
    data = helpers.Subject("seq2seq_attn").data()
    data.prepare_data()
    data.setup("fit")
    with pytest.raises(AssertionError):
        registered.test_each_example_comes_once(data)


def test_a_resume_that_loses_its_place_is_found(check, monkeypatch):
    monkeypatch.setattr(loading.BatchLoader, "load_state_dict", lambda self, state: None)
    with pytest.raises(AssertionError):
        check("test_a_resumed_run_ends_with_the_same_weights")
