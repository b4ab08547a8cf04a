"""Layers and formulas with no opinion about training; imports torch alone."""

from dlarch.nn.activations import ACTIVATIONS, Activation, Maxout, make_activation, units_before
from dlarch.nn.attention import Attended, MultiHeadAttention, attention_weights
from dlarch.nn.basis import Basis, make_basis
from dlarch.nn.clusters import membership_kl, sharpened, student_memberships
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
from dlarch.nn.noise import Corruption, GaussianNoise, corrupted
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
from dlarch.nn.sparsity import bernoulli_kl, keep_largest
from dlarch.nn.stacks import dense_stack
from dlarch.nn.transfer import (
    activation_layers,
    as_constants,
    cut_after,
    cut_off,
    last_layer,
    layer_groups,
    layers_up_to,
    watched,
)
from dlarch.nn.transformer import EncoderLayer, Residual, position_network

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Attended",
    "Backend",
    "Basis",
    "Cell",
    "Constant",
    "Corruption",
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
    "activation_layers",
    "as_constants",
    "as_pixels",
    "attention_weights",
    "bernoulli_kl",
    "bernoulli_nll",
    "corrupted",
    "cut_after",
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
    "keep_largest",
    "last_layer",
    "layer_groups",
    "layers_up_to",
    "lstm_update",
    "make_activation",
    "make_basis",
    "make_recurrent",
    "masked_max",
    "masked_mean",
    "membership_kl",
    "position_network",
    "rnn_update",
    "run_recurrent",
    "sharpened",
    "squared_error",
    "step_from_gates",
    "step_recurrent",
    "student_memberships",
    "units_before",
    "watch_states",
    "watched",
]
