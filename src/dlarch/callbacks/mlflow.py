"""MLflow as the logger of a run: one line of YAML, and all of the run stands in MLflow's page."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger

from dlarch.errors import OptionError
from dlarch.runs import Run, runs_root

MLFLOW_FILE = "mlflow.json"
"""File of a run folder that says where MLflow keeps it, so that a resumed run goes on there."""


class MLflow(MLFlowLogger):
    """Lightning's logger for MLflow, in a database beside the runs.

    Parameters, metrics, learning curves, metrics.json and the trained model, as a pretrained folder
    that `AutoModel.from_pretrained` opens, are kept. `mlflow ui --backend-store-uri
    sqlite:///runs/mlflow.db` shows them.

    Args:
        experiment_name: the recipe's name when not given.
        tracking_uri: of a server or database; $MLFLOW_TRACKING_URI, or runs/mlflow.db, when not
            given.
        run_name: the run folder's name when not given.

    Raises:
        OptionError: MLflow is not installed.
    """

    def __init__(
        self,
        experiment_name: str | None = None,
        tracking_uri: str | None = None,
        run_name: str | None = None,
    ) -> None:
        self._folder: Path | None = None
        root = runs_root().absolute()
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            root.mkdir(parents=True, exist_ok=True)
        try:
            super().__init__(
                experiment_name=experiment_name or "",
                run_name=run_name,
                tracking_uri=uri or f"sqlite:///{(root / 'mlflow.db').as_posix()}",
                artifact_location=None if uri else (root / "mlflow_artifacts").as_uri(),
            )
        except ModuleNotFoundError as error:
            raise OptionError("MLflow is not installed: pip install 'dlarch[mlflow]'.") from error

    def belong_to(self, run: Run) -> None:
        """Take the names that were not given from the run folder, and go on where it stood."""
        self._folder = run.folder
        self._experiment_name = self._experiment_name or run.name.partition("/")[0]
        self._run_name = self._run_name or run.name
        known = run.folder / MLFLOW_FILE
        if known.is_file():
            self._run_id = json.loads(known.read_text(encoding="utf-8"))["run_id"]

    def log_hyperparams(self, params: Any) -> None:
        """Log what the run is made with, once: a resumed run has done so."""
        known = self.experiment.get_run(self.run_id).data.params
        super().log_hyperparams({name: v for name, v in params.items() if name not in known})
        if self._folder is not None:
            where = {"tracking_uri": self._tracking_uri, "run_id": self.run_id}
            (self._folder / MLFLOW_FILE).write_text(json.dumps(where), encoding="utf-8")

    def keep(self, run: Run, model: Any) -> None:
        """Upload the files of a finished run, and its model with the tested weights."""
        for path in (run.folder / "learning_curves.png", run.config, run.metrics):
            if path.is_file():
                self.experiment.log_artifact(self.run_id, str(path))
        if hasattr(model, "save_pretrained"):
            with TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                self.experiment.log_artifacts(self.run_id, folder, "model")
