"""`dlarch generate RUN`: texts that a trained model writes."""

from __future__ import annotations

import sys
from typing import Any

import yaml

from dlarch.cli.options import OptionParser, not_negative, positive, print_text, trained_model
from dlarch.errors import OptionError, UserError
from dlarch.runs import resolve_checkpoint


def run(argv: list[str]) -> int:
    """Print texts, each with whether the model has seen it in training; one alone as it comes."""
    arguments = _parser().parse(argv)
    model = trained_model(arguments, "generate")
    names = ("prompt", "temperature", "top_k", "top_p", "max_length", "seed")
    options: dict[str, Any] = {name: getattr(arguments, name) for name in names}
    options["condition"] = _condition(arguments.condition, model)
    if arguments.n == 1 and arguments.beam is None:
        text = ""
        for piece in model.stream(**options):
            text += piece
            print(piece, end="", flush=True)
        print()
        _say_new([text], _training_texts(arguments.run, model))
        return 0
    texts = model.generate(arguments.n, beam=arguments.beam, **options)
    known = _training_texts(arguments.run, model)
    several_lines = any("\n" in text for text in texts)
    for text in texts:
        if several_lines:  # an empty line after each, as between tunes
            print_text(text.removesuffix("\n") + "\n")
        else:
            print_text(text if known is None else f"{text}\t{'known' if text in known else 'new'}")
    _say_new(texts, known)
    return 0


def _say_new(texts: list[str], known: set[str] | None) -> None:
    if known is not None:
        new = sum(text not in known for text in texts)
        are = "is" if len(texts) == 1 else "are"
        print(f"{new} of {len(texts)} {are} not among the training texts.", file=sys.stderr)


def _parser() -> OptionParser:
    parser = OptionParser("generate", "Write texts with a trained model.")
    parser.add_argument("run", help="run folder, checkpoint, pretrained folder or Hub id")
    parser.add_argument("--n", type=positive, default=1, help="number of texts")
    parser.add_argument("--prompt", default="", help="how each text begins")
    parser.add_argument("--condition", help="class of the texts, such as gender=female")
    parser.add_argument(
        "--temperature", type=not_negative, default=1.0, help="0 takes the likeliest token"
    )
    parser.add_argument("--top_k", type=positive, help="draw among the k most probable tokens")
    parser.add_argument("--top_p", type=float, help="draw among tokens that hold this share")
    parser.add_argument("--beam", type=positive, help="search for the likeliest, with so many")
    parser.add_argument("--max_length", type=positive, help="tokens at the most")
    parser.add_argument("--seed", type=int, help="of the draws")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    return parser


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
    import dlarch

    try:
        config = resolve_checkpoint(where).parent.parent / "config.yaml"
        if not config.is_file():
            return None
        asked = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]
        data: Any = dlarch.create_data(
            asked["class_path"], **asked.get("init_args", {}) | {"processor": model.processor}
        )
        if not data.in_documents:
            print("Not compared with the training text, which is read in windows.", file=sys.stderr)
            return None
        plain = model.processor.tokens.normalize  # as the model can write it
        return {plain(text) for text, _ in data.open_source().read("train")}
    except (UserError, AttributeError) as error:
        print(f"Not compared with the training texts: {error}", file=sys.stderr)
        return None
