"""Raw input to tensors and back: what travels with the weights of a model."""

from dlarch.processing.base import Processor, load_processor, processor_from_dict
from dlarch.processing.image import ImageProcessor
from dlarch.processing.labelled_text import LabelledTextProcessor
from dlarch.processing.sequence import SequenceProcessor
from dlarch.processing.table import TableProcessor
from dlarch.processing.text import TextProcessor
from dlarch.processing.translation import TranslationProcessor

__all__ = [
    "ImageProcessor",
    "LabelledTextProcessor",
    "Processor",
    "SequenceProcessor",
    "TableProcessor",
    "TextProcessor",
    "TranslationProcessor",
    "load_processor",
    "processor_from_dict",
]
