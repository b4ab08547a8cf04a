"""What a training step is, per kind of problem."""

from dlarch.tasks.adversarial import Adversarial
from dlarch.tasks.alternating import Alternating
from dlarch.tasks.annealing import Annealing, Schedule
from dlarch.tasks.autoencoder_with_critic import AutoencoderWithCritic
from dlarch.tasks.base import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    Task,
)
from dlarch.tasks.closed_form import ClosedForm
from dlarch.tasks.clustered_images import ClusteredImages
from dlarch.tasks.examples import training_batches
from dlarch.tasks.image_autoencoder import ImageAutoencoder, as_bytes
from dlarch.tasks.language_model import LanguageModel
from dlarch.tasks.latent import Bound, Posterior, noise_of
from dlarch.tasks.latent_images import LatentImages
from dlarch.tasks.latent_text import LatentText
from dlarch.tasks.metrics import IdleUnits, Ratio
from dlarch.tasks.moments import Moments
from dlarch.tasks.sequence_regression import SequenceRegressor
from dlarch.tasks.supervised import Prediction, Supervised
from dlarch.tasks.teacher_forcing import TeacherForcing
from dlarch.tasks.text_autoencoder import TextAutoencoder
from dlarch.tasks.text_classification import TextClassifier
from dlarch.tasks.translation import Translation, TranslationOutput
from dlarch.tasks.translator import DecoderOutput, DecoderStep
from dlarch.tasks.writer import Given

__all__ = [
    "Adversarial",
    "Alternating",
    "Annealing",
    "AutoencoderWithCritic",
    "Bound",
    "ClosedForm",
    "ClusteredImages",
    "DecoderOutput",
    "DecoderStep",
    "Given",
    "IdleUnits",
    "ImageAutoencoder",
    "InitializerCallable",
    "LanguageModel",
    "LatentImages",
    "LatentText",
    "LossCallable",
    "Moments",
    "OptimizerCallable",
    "Posterior",
    "Prediction",
    "Ratio",
    "Schedule",
    "SchedulerCallable",
    "SequenceRegressor",
    "Supervised",
    "Task",
    "TeacherForcing",
    "TextAutoencoder",
    "TextClassifier",
    "Translation",
    "TranslationOutput",
    "as_bytes",
    "noise_of",
    "training_batches",
]
