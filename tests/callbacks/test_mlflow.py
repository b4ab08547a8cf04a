"""MLflow keeps all of a run, and a resumed run goes on in the same place."""

import json

import pytest

from dlarch import AutoModel, create_data, create_model, fit
from dlarch.callbacks.mlflow import MLflow
from dlarch.errors import OptionError

mlflow = pytest.importorskip("mlflow", reason="an extra: pip install 'dlarch[mlflow]'")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(**options):
        data = create_data("digits", train_size=64, batch_size=16)
        model = create_model("mlp", data, hidden_sizes=[8], activation="tanh")
        return fit(
            model,
            data,
            name="mine",
            logger=MLflow(),
            accelerator="cpu",
            enable_progress_bar=False,
            log_every_n_steps=2,
            **options,
        )

    return run


@pytest.mark.slow
def test_parameters_metrics_pictures_and_model_are_kept(trained, tmp_path):
    result = trained(max_epochs=1)
    again = trained(max_epochs=2, ckpt_path=result.run.folder)
    assert again.run.folder == result.run.folder
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'runs/mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert run.data.params["activation"] == "tanh"
    assert run.data.params["optimizer"] == "Adam"
    assert run.data.params["optimizer.lr"] == "0.001"
    assert run.data.metrics["test/accuracy"] == pytest.approx(again.metrics["test/accuracy"])
    assert len(client.get_metric_history(run.info.run_id, "val/loss")) == 2
    kept = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"learning_curves.png", "metrics.json", "model"} <= kept
    folder = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id,
        artifact_path="model",
        tracking_uri=f"sqlite:///{tmp_path / 'runs/mlflow.db'}",
        dst_path=str(tmp_path / "downloads"),
    )
    assert AutoModel.from_pretrained(folder).hparams.activation == "tanh"
    where = json.loads((result.run.folder / "mlflow.json").read_text(encoding="utf-8"))
    assert where["run_id"] == run.info.run_id


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path))
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._MLFLOW_AVAILABLE", False)
    with pytest.raises(OptionError, match=r"pip install 'dlarch\[mlflow\]'"):
        MLflow()
