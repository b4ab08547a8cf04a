"""dlarch: deep-learning architectures for PyTorch Lightning, by name.

`import dlarch` is quick: each of the names below is imported from its module at its first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlarch.factory import create_baseline, create_data, create_model
    from dlarch.hub import AutoModel
    from dlarch.registry import (
        baseline_info,
        data_info,
        list_baselines,
        list_data,
        list_models,
        model_info,
        register_baseline,
        register_data,
        register_model,
    )
    from dlarch.spec import DataSpec
    from dlarch.training import fit

__version__ = "0.1.0"

__all__ = [
    "AutoModel",
    "DataSpec",
    "__version__",
    "baseline_info",
    "create_baseline",
    "create_data",
    "create_model",
    "data_info",
    "fit",
    "list_baselines",
    "list_data",
    "list_models",
    "model_info",
    "register_baseline",
    "register_data",
    "register_model",
]

_MODULES = {
    "AutoModel": "dlarch.hub",
    "DataSpec": "dlarch.spec",
    "baseline_info": "dlarch.registry",
    "create_baseline": "dlarch.factory",
    "create_data": "dlarch.factory",
    "create_model": "dlarch.factory",
    "data_info": "dlarch.registry",
    "fit": "dlarch.training",
    "list_baselines": "dlarch.registry",
    "list_data": "dlarch.registry",
    "list_models": "dlarch.registry",
    "model_info": "dlarch.registry",
    "register_baseline": "dlarch.registry",
    "register_data": "dlarch.registry",
    "register_model": "dlarch.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'dlarch' has no attribute '{name}'")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
