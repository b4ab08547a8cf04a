"""Greedy decoding, sampling and beam search for every autoregressive model.

A model offers `step` (see `StepModel`) with an explicit state; everything else is here.
"""

from dlarch.decoding.beam import beam_search
from dlarch.decoding.protocol import Hypotheses, StepModel, StepOutput
from dlarch.decoding.sampling import draw, greedy, sample, sample_stream
from dlarch.decoding.state import (
    PerSentence,
    expand,
    has_tensors,
    list_tensors,
    map_tensors,
    reorder,
    select,
)

__all__ = [
    "Hypotheses",
    "PerSentence",
    "StepModel",
    "StepOutput",
    "beam_search",
    "draw",
    "expand",
    "greedy",
    "has_tensors",
    "list_tensors",
    "map_tensors",
    "reorder",
    "sample",
    "sample_stream",
    "select",
]
