"""`dlarch generate RUN`: texts that a trained model writes, or images that it draws."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from dlarch.cli.options import OptionParser, not_negative, positive, trained_model
from dlarch.errors import MismatchError, OptionError


def run(argv: list[str]) -> int:
    """Generate what the model makes."""
    arguments = _parser().parse(argv)
    model = trained_model(arguments, "generate")
    from dlarch.cli import generate_images, generate_texts  # not before --help is answered

    kind = getattr(model.processor, "type", None)
    if kind == "image":
        _refuse(generate_texts.OPTIONS, arguments, "texts", model)
        generate_images.write_images(arguments, model)
    elif kind == "text":
        _refuse(generate_images.OPTIONS, arguments, "images", model)
        generate_texts.write_texts(arguments, model)
    else:
        raise MismatchError(f"{type(model).__name__} generates neither texts nor images.")
    return 0


def _refuse(names: Sequence[str], arguments: Namespace, made: str, model: Any) -> None:
    """Refuse options that are for a model of something else."""
    for name in names:
        if getattr(arguments, name) is not None:
            raise OptionError(
                f"--{name} is for models of {made}, which {type(model).__name__} is not: leave it "
                "out."
            )


def _parser() -> OptionParser:
    parser = OptionParser("generate", "Write texts, or draw images, with a trained model.")
    parser.add_argument("run", help="run folder, checkpoint, pretrained folder or Hub id")
    parser.add_argument(
        "--n", type=positive, help="number of texts (1), of images (64), or of codes of a walk (8)"
    )
    parser.add_argument("--condition", help="class, such as gender=female, or 7")
    parser.add_argument("--seed", type=int, help="of the draws")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    texts = parser.add_argument_group("texts")
    texts.add_argument("--prompt", help="how each text begins")
    texts.add_argument(
        "--temperature", type=not_negative, help="1; 0 takes the likeliest token each time"
    )
    texts.add_argument("--top_k", type=positive, help="draw among the k most probable tokens")
    texts.add_argument("--top_p", type=float, help="draw among tokens that hold this share")
    texts.add_argument("--beam", type=positive, help="search for the likeliest, with so many")
    texts.add_argument("--max_length", type=positive, help="tokens at the most")
    images = parser.add_argument_group("images")
    images.add_argument("--grid", help="one picture of all, such as out.png")
    images.add_argument("--walk", help="an animation from code to code, such as out.gif")
    images.add_argument("--folder", help="of one file for each (generated)")
    return parser
