"""A quiet Trainer."""

from collections.abc import Callable
from typing import Any

import lightning as L  # noqa: N812
import pytest


@pytest.fixture
def trainer_of(tmp_path) -> Callable[..., L.Trainer]:
    def make(**options: Any) -> L.Trainer:
        defaults = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": tmp_path,
        }
        return L.Trainer(**defaults | options)

    return make
