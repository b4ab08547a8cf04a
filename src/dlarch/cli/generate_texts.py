"""What `dlarch generate` does with a model of texts: print them, each new or known."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from dlarch.cli.options import print_text
from dlarch.errors import OptionError, UserError
from dlarch.runs import resolve_checkpoint

OPTIONS = ("prompt", "temperature", "top_k", "top_p", "beam", "max_length")
"""Options that models of images do not know."""


def write_texts(arguments: Namespace, model: Any) -> None:
    """Print texts, each with whether the model has seen it in training; one alone as it comes."""
    names = (*OPTIONS, "seed")
    given = {name: getattr(arguments, name) for name in names}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    options["condition"] = _condition(arguments.condition, model)
    count = arguments.n or 1
    if count == 1 and arguments.beam is None:
        text = ""
        for piece in model.stream(**options):
            text += piece
            print(piece, end="", flush=True)
        print()
        _say_new([text], _training_texts(arguments.run, model))
        return
    texts = model.generate(count, **options)
    known = _training_texts(arguments.run, model)
    several_lines = any("\n" in text for text in texts)
    for text in texts:
        if several_lines:  # an empty line after each, as between tunes
            print_text(text.removesuffix("\n") + "\n")
        else:
            print_text(text if known is None else f"{text}\t{'known' if text in known else 'new'}")
    _say_new(texts, known)


def _say_new(texts: list[str], known: set[str] | None) -> None:
    if known is not None:
        new = sum(text not in known for text in texts)
        are = "is" if len(texts) == 1 else "are"
        print(f"{new} of {len(texts)} {are} not among the training texts.", file=sys.stderr)


def _condition(asked: str | None, model: Any) -> str | None:
    """The class that `NAME=CLASS` or `CLASS` asks for.

    Raises:
        OptionError: the classes of the model are of something else.
    """
    if asked is None or "=" not in asked:
        return asked
    name, _, condition = asked.partition("=")
    of = getattr(model.processor, "label_name", None)
    if name != of:
        raise OptionError(
            f"The model knows no {name}"
            + (f", only {of}: {', '.join(model.condition_names())}." if of else ": leave it out.")
        )
    return condition


def _training_texts(where: str, model: Any) -> set[str] | None:
    """The texts that a run was trained on, where they can be read again."""
    from dlarch.factory import create_data_of

    try:
        if not (resolve_checkpoint(where).parent.parent / "config.yaml").is_file():
            return None
        data: Any = create_data_of(where, processor=model.processor)
        if not data.in_documents:
            print("Not compared with the training text, which is read in windows.", file=sys.stderr)
            return None
        plain = model.processor.tokens.normalize  # as the model can write it
        return {plain(text) for text, _ in data.open_source().read("train")}
    except (UserError, AttributeError) as error:
        print(f"Not compared with the training texts: {error}", file=sys.stderr)
        return None
