"""`dlarch translate RUN "..."`: translate text from the command line, files or standard input."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from dlarch.cli.options import OptionParser, not_negative, positive, print_text, trained_model
from dlarch.errors import DataError

CHUNK = 512
"""Sentences that are translated before the next lines are read."""


def run(argv: list[str]) -> int:
    """Print one translation per sentence, in the order given."""
    arguments = _parser().parse(argv)
    model = trained_model(arguments, "translate")
    options: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in (
            "beam", "length_penalty", "n_best", "temperature", "top_k", "top_p", "max_length",
            "batch_size", "seed",
        )
    }  # fmt: skip
    sentences = _sentences(arguments)
    while chunk := list(islice(sentences, CHUNK)):
        for found in model.translate(chunk, **options):
            for text in [found] if isinstance(found, str) else found:
                print_text(text)
        sys.stdout.flush()
    return 0


def _parser() -> OptionParser:
    parser = OptionParser("translate", "Translate text with a trained model.")
    parser.add_argument("run", help="run folder, checkpoint, pretrained folder or Hub id")
    parser.add_argument("text", nargs="*", help="sentences; none: lines of standard input")
    parser.add_argument("--file", type=Path, action="append", help="read a file line by line")
    parser.add_argument(
        "--beam", type=positive, default=1, help="hypotheses per sentence; 1 is greedy"
    )
    parser.add_argument("--length_penalty", type=float, default=1.0, help="exponent of the length")
    parser.add_argument("--n_best", type=positive, default=1, help="translations per sentence")
    parser.add_argument("--temperature", type=not_negative, default=0.0, help="above 0: draw")
    parser.add_argument("--top_k", type=positive, help="draw among the k most probable tokens")
    parser.add_argument("--top_p", type=float, help="draw among tokens that hold this share")
    parser.add_argument("--max_length", type=positive, help="tokens at the most")
    parser.add_argument("--batch_size", type=positive, default=64, help="sentences at a time")
    parser.add_argument("--seed", type=int, help="of the draws")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    return parser


def _sentences(arguments: argparse.Namespace) -> Iterator[str]:
    yield from arguments.text
    for path in arguments.file or ():
        try:
            with path.open(encoding="utf-8") as lines:
                yield from (line.rstrip("\r\n") for line in lines)
        except FileNotFoundError as error:
            raise DataError(f"There is no file '{path}'.") from error
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 (byte {error.start}).") from error
    if not arguments.text and not arguments.file:
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8", errors="strict")
        try:
            yield from (line.rstrip("\r\n") for line in sys.stdin)
        except UnicodeDecodeError as error:
            raise DataError(f"Standard input is not UTF-8 (byte {error.start}).") from error
