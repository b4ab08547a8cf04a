"""Options of the verbs that do not train: argparse, with one-line errors that name the nearest."""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from dlarch.errors import MismatchError, OptionError, UnknownNameError, did_you_mean


class OptionParser(argparse.ArgumentParser):
    """A parser whose mistakes are `UserError`s and whose options cannot be abbreviated."""

    def __init__(self, verb: str, description: str) -> None:
        super().__init__(prog=f"dlarch {verb}", description=description, allow_abbrev=False)

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse `argv`; -h prints the help and exits.

        Raises:
            OptionError: an option or argument is unknown, missing or of the wrong type.
        """
        arguments, unknown = self.parse_known_args(argv)
        if unknown:
            self.refuse(unknown[0])
        return arguments

    def refuse(self, word: str) -> NoReturn:
        """Say that `word` is no option or argument here."""
        if not word.startswith("-"):
            raise OptionError(f"`{self.prog}` has no use for '{word}'. See `{self.prog} --help`.")
        option = word.partition("=")[0]
        known = [name for action in self._actions for name in action.option_strings]
        raise OptionError(
            f"`{self.prog}` has no option '{option}'.{did_you_mean(option, known)} "
            f"See `{self.prog} --help`."
        )

    def error(self, message: str) -> NoReturn:
        """Turn argparse's complaint into an error of ours."""
        raise OptionError(f"{message[:1].upper()}{message[1:]}. See `{self.prog} --help`.")


def positive(text: str) -> int:
    """A number of things, at least 1; for `type=` of an option."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


positive.__name__ = "int"  # argparse says "invalid int value"


def trained_model(arguments: argparse.Namespace, verb: str) -> Any:
    """The model that `run` names, on the device asked for.

    Args:
        arguments: with `run` and `device`.
        verb: method that the model must have.

    Raises:
        MismatchError: it has no such method.
        OptionError: there is no such device.
    """
    from dlarch.hub import AutoModel  # torch is imported here: --help must not wait for it

    model = AutoModel.from_pretrained(arguments.run)
    if not hasattr(model, verb):
        raise MismatchError(f"{type(model).__name__} does not {verb}.")
    check_device(arguments.device)
    return model.to(arguments.device)


def check_device(device: str) -> None:
    """Refuse a device that is not here.

    Raises:
        OptionError: there is no such device.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # none such, or torch was built without it
        reason = str(error).splitlines()[0].rstrip(".")
        raise OptionError(f"--device {device} cannot be used: {reason}.") from error


def not_negative(text: str) -> float:
    """A number from 0 up, for argparse."""
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"must not be below 0, but is {text}")
    return value


not_negative.__name__ = "float"  # argparse says "invalid float value"


def choose(verb: str, words: Sequence[str], choices: Sequence[str]) -> str:
    """The first of `words`, when it is one of `choices`.

    Raises:
        UnknownNameError: it is another.
    """
    if words and words[0] in choices:
        return words[0]
    listed = ", ".join(choices)
    if not words:
        raise UnknownNameError(f"`dlarch {verb}` needs one of: {listed}.")
    raise UnknownNameError(
        f"`dlarch {verb}` has no '{words[0]}'.{did_you_mean(words[0], choices)} It has: {listed}."
    )


def print_table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Print rows in columns as wide as they must be; the last column is ragged.

    Text that the terminal's encoding lacks is replaced, so that a table never fails.
    """
    lines = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        print_text("  ".join(cells).rstrip())


def print_text(text: str) -> None:
    """Print `text`; what the terminal cannot show becomes a question mark."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, errors="replace").decode(encoding))


def as_options(words: Sequence[str]) -> dict[str, str]:
    """Read `--name value` and `--name=value` pairs; dashes inside a name become underscores.

    Raises:
        OptionError: a word is no option, or an option has no value.
    """
    options: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        match = re.fullmatch(r"--([A-Za-z][\w-]*)(?:=(.*))?", word, re.DOTALL)
        if match is None:
            raise OptionError(f"'{word}' is not an option of the form --name value.")
        if match[2] is None and not rest:
            raise OptionError(f"The option '{word}' needs a value.")
        options[match[1].replace("-", "_")] = rest.pop(0) if match[2] is None else match[2]
    return options
