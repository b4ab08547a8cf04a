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
from dlarch.nn.latent import free_bits, gaussian_kl, importance_nll
from dlarch.nn.likelihoods import (
    Likelihood,
    as_pixels,
    bernoulli_nll,
    gaussian_nll,
    squared_error,
)
from dlarch.nn.losses import OneHotLoss, PseudoHuberLoss, RMSELoss
from dlarch.nn.noise import GaussianNoise
from dlarch.nn.penalties import ElasticNet
from dlarch.nn.pooling import masked_max, masked_mean
from dlarch.nn.positions import LearnedPositions, SinusoidalPositions
from dlarch.nn.recurrent import (
    Backend,
    Cell,
    Nonlinearity,
    RecurrentInit,
    RecurrentState,
    StatesOfLayer,
    gru_update,
    init_recurrence,
    lstm_update,
    make_recurrent,
    rnn_update,
    run_recurrent,
    step_from_gates,
    step_recurrent,
    watch_states,
)
from dlarch.nn.stacks import dense_stack
from dlarch.nn.transfer import cut_off, last_layer, layer_groups, layers_up_to
from dlarch.nn.transformer import EncoderLayer, Residual, position_network

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Attended",
    "Backend",
    "Basis",
    "Cell",
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
    "Likelihood",
    "Maxout",
    "MultiHeadAttention",
    "Nonlinearity",
    "OneHotLoss",
    "PseudoHuberLoss",
    "RMSELoss",
    "RecurrentInit",
    "RecurrentState",
    "Residual",
    "SinusoidalPositions",
    "StatesOfLayer",
    "as_pixels",
    "attention_weights",
    "bernoulli_nll",
    "cut_off",
    "default_initializer",
    "dense_stack",
    "free_bits",
    "gaussian_kl",
    "gaussian_nll",
    "gru_update",
    "importance_nll",
    "init_recurrence",
    "initialize",
    "last_layer",
    "layer_groups",
    "layers_up_to",
    "lstm_update",
    "make_activation",
    "make_basis",
    "make_recurrent",
    "masked_max",
    "masked_mean",
    "position_network",
    "rnn_update",
    "run_recurrent",
    "squared_error",
    "step_from_gates",
    "step_recurrent",
    "units_before",
    "watch_states",
]
