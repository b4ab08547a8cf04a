"""Other loggers than TensorBoard, by one line: MLflow keeps all of a run, CSV its metrics."""

import json

import pytest

from dlarch import AutoModel
from dlarch.callbacks.mlflow import MLflow
from dlarch.cli.main import main
from dlarch.errors import OptionError


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Train by the command line; returns the run folder."""
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = (
        "--model mlp --model.hidden_sizes [8] --model.activation tanh --data digits "
        "--data.train_size 64 --data.batch_size 16 --name mine --trainer.accelerator cpu "
        "--trainer.enable_progress_bar false --trainer.log_every_n_steps 2"
    )

    def run(more: str):
        assert main(["fit", *words.split(), *more.split()]) == 0
        (folder,) = (tmp_path / "runs/mine").iterdir()
        return folder

    return run


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["metrics"]


@pytest.mark.slow
def test_parameters_metrics_pictures_and_model_are_kept(trained, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="an extra: pip install 'dlarch[mlflow]'")
    logger = "--trainer.logger dlarch.callbacks.mlflow.MLflow"
    folder = trained(f"{logger} --trainer.max_epochs 1")
    trained(f"{logger} --trainer.max_epochs 2 --ckpt_path {folder}")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'runs/mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert run.data.params["activation"] == "tanh"
    assert run.data.params["optimizer"] == "Adam"
    assert run.data.params["optimizer.lr"] == "0.001"
    assert run.data.metrics["test/accuracy"] == pytest.approx(metrics_of(folder)["test/accuracy"])
    assert len(client.get_metric_history(run.info.run_id, "val/loss")) == 2
    kept = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"learning_curves.png", "metrics.json", "model"} <= kept
    stored = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id,
        artifact_path="model",
        tracking_uri=f"sqlite:///{tmp_path / 'runs/mlflow.db'}",
        dst_path=str(tmp_path / "downloads"),
    )
    assert AutoModel.from_pretrained(stored).hparams.activation == "tanh"
    where = json.loads((folder / "mlflow.json").read_text(encoding="utf-8"))
    assert where["run_id"] == run.info.run_id


def test_a_csv_logger_takes_one_line_too(trained, tmp_path):
    logger = f"--trainer.logger CSVLogger --trainer.logger.save_dir {tmp_path}/logs"
    trained(f"--trainer.max_epochs 1 {logger}")
    (path,) = (tmp_path / "logs").rglob("metrics.csv")
    columns = path.read_text(encoding="utf-8").splitlines()[0].split(",")
    assert {"train/loss", "val/accuracy"} <= set(columns)


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path))
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._MLFLOW_AVAILABLE", False)
    with pytest.raises(OptionError, match=r"pip install 'dlarch\[mlflow\]'"):
        MLflow()
