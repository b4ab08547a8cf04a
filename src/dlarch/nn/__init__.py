"""Layers and formulas with no opinion about training; imports torch alone."""

from dlarch.nn.activations import ACTIVATIONS, Activation, Maxout, make_activation, units_before
from dlarch.nn.attention import Attended, MultiHeadAttention, attention_weights
from dlarch.nn.basis import Basis, make_basis
from dlarch.nn.initializers import (
    Constant,
    Glorot,
    He,
    Initializer,
    LeCun,
    default_initializer,
    initialize,
)
from dlarch.nn.kneser_ney import KneserNey
from dlarch.nn.losses import OneHotLoss, PseudoHuberLoss, RMSELoss
from dlarch.nn.noise import GaussianNoise
from dlarch.nn.penalties import ElasticNet
from dlarch.nn.pooling import masked_max, masked_mean
from dlarch.nn.positions import LearnedPositions, SinusoidalPositions
from dlarch.nn.recurrent import (
    CELLS,
    Backend,
    RecurrentState,
    gru_update,
    lstm_update,
    rnn_update,
    run_recurrent,
    step_from_gates,
    step_recurrent,
)
from dlarch.nn.transfer import cut_off, last_layer, layer_groups, layers_up_to
from dlarch.nn.transformer import EncoderLayer, Residual, position_network

__all__ = [
    "ACTIVATIONS",
    "CELLS",
    "Activation",
    "Attended",
    "Backend",
    "Basis",
    "Constant",
    "ElasticNet",
    "EncoderLayer",
    "GaussianNoise",
    "Glorot",
    "He",
    "Initializer",
    "KneserNey",
    "LeCun",
    "LearnedPositions",
    "Maxout",
    "MultiHeadAttention",
    "OneHotLoss",
    "PseudoHuberLoss",
    "RMSELoss",
    "RecurrentState",
    "Residual",
    "SinusoidalPositions",
    "attention_weights",
    "cut_off",
    "default_initializer",
    "gru_update",
    "initialize",
    "last_layer",
    "layer_groups",
    "layers_up_to",
    "lstm_update",
    "make_activation",
    "make_basis",
    "masked_max",
    "masked_mean",
    "position_network",
    "rnn_update",
    "run_recurrent",
    "step_from_gates",
    "step_recurrent",
    "units_before",
]
