"""Repeating a vector: a kind of problem, a model and data for dlarch."""

from .model import EchoScaled

__all__ = ["EchoScaled"]
