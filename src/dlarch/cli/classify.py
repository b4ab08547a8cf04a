"""`dlarch classify RUN INPUT ...`: the classes of images, of texts, or of rows of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from dlarch.cli.options import OptionParser, positive, print_text, trained_model
from dlarch.errors import DataError

CHUNK = 256
"""Inputs that are classified at a time."""


def run(argv: list[str]) -> int:
    """Print a line per input: what it is, and its classes with their probabilities.

    Of a model that weighs words, a second line says how much it looked at each.
    """
    arguments = _parser().parse(argv)
    model = trained_model(arguments, "classify")
    inputs = iter(arguments.input)
    while chunk := list(islice(inputs, CHUNK)):
        inputs_read = list(_read(chunk, model))
        found = model.classify(inputs_read, top=arguments.top)
        weights = (
            model.weigh(inputs_read) if hasattr(model, "word_weights") else [None] * len(found)
        )
        for word, predictions, looked in zip(chunk, found, weights, strict=True):
            classes = (f"{name}\t{probability:.4f}" for name, probability in predictions)
            print_text("\t".join((word, *classes)))
            if looked is not None:
                print_text(
                    "  " + "  ".join(f"{piece.strip() or '␣'} {w:.4f}" for piece, w in looked)
                )
    return 0


def _parser() -> OptionParser:
    parser = OptionParser("classify", "Tell the classes of images, texts or rows of numbers.")
    parser.add_argument("run", help="run folder, checkpoint, pretrained folder or Hub id")
    parser.add_argument(
        "input", nargs="+", help="image files, texts, or rows of numbers such as 5.1,3.5,1.4"
    )
    parser.add_argument("--top", type=positive, default=1, help="classes per input")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    return parser


def _read(words: list[str], model: Any) -> Iterator[Any]:
    """The inputs that words of the command line mean."""
    for word in words:
        if getattr(model.processor, "type", None) != "table":
            yield word
            continue
        try:
            yield [float(number) for number in word.split(",")]
        except ValueError as error:
            raise DataError(f"'{word}' is no row of numbers, such as 5.1,3.5,1.4.") from error
