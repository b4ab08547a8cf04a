"""One data module per file; each works on its own, in any Lightning project."""

from dlarch.data.base import DataModule

__all__ = ["DataModule"]
