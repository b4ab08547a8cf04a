import pytest
import torch

import dlarch
from dlarch.callbacks.compiled import Compile
from dlarch.callbacks.cost import TrainingCost
from dlarch.errors import OptionError

QUIET = {
    "logger": False,
    "accelerator": "cpu",
    "devices": 1,
    "enable_progress_bar": False,
    "max_epochs": 2,
}


@pytest.fixture
def fit(tmp_path, session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))

    def run(*callbacks):
        data = dlarch.create_data("digits", batch_size=10, train_size=60)
        torch.manual_seed(0)
        model = dlarch.create_model("cnn", data, widths=(4,), pictures=False)
        return model, dlarch.fit(model, data, callbacks=[*callbacks, TrainingCost()], **QUIET)

    return run


def test_a_compiled_network_learns_the_same(fit):
    frames = []

    def backend(module, _):
        frames.append(module)
        return module.forward

    plain, expected = fit()
    torch._dynamo.reset()
    model, found = fit(Compile(backend=backend, on_cpu=True))
    assert frames
    assert "forward" not in vars(model)  # it is as it was
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, msg=name)
    assert found.metrics["test/accuracy"] == expected.metrics["test/accuracy"]
    assert found.metrics["train/pflop"] == expected.metrics["train/pflop"]
    again = dlarch.AutoModel.from_pretrained(found.run.folder)
    assert again.state_dict().keys() == plain.state_dict().keys()


def test_on_a_cpu_nothing_is_compiled_unless_asked_for(fit, caplog):
    with caplog.at_level("INFO", "dlarch"):
        model, _ = fit(Compile())
    assert "forward" not in vars(model)
    assert "it runs on a CPU" in caplog.text


def test_translators_are_refused(tmp_path, session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    data = dlarch.create_data("translation", source="copy", train_size=20)
    model = dlarch.create_model("seq2seq", data, hidden_size=4, embedding_size=4)
    with pytest.raises(OptionError, match="not for translators: leave it out"):
        dlarch.fit(model, data, callbacks=[Compile()], **QUIET)
