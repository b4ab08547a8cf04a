"""Every mistake a user can make: what is wrong, the nearest right thing, what to type.

The command line prints the message of a `UserError` as one line and exits with code 2; in Python
it is an ordinary exception. A message is one or two plain sentences that name the thing that is
wrong and the way out.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake that the user can mend; its message says how."""


class UnknownNameError(UserError):
    """A model, data module, recipe, command or option that does not exist."""


class NameClashError(UserError):
    """Two classes want the same registry name."""


class OptionError(UserError):
    """An option with a value that cannot be used."""


class DataError(UserError):
    """Data that are missing, unreadable or malformed."""


class MismatchError(UserError):
    """Two things that do not fit: model and data, or a checkpoint and what it is used with."""


class CheckpointError(UserError):
    """A checkpoint or pretrained folder that is missing, damaged, foreign or unsafe."""


class RunError(UserError):
    """A run folder that cannot be found, written to or resumed."""


class NonFiniteLossError(UserError):
    """A loss that became infinite or not a number."""


def check_at_least_1(**options: int | None) -> None:
    """Refuse options below 1; None stands for one that is not given.

    Raises:
        OptionError: the first that is, by name and value.
    """
    for name, value in options.items():
        if value is not None and value < 1:
            raise OptionError(f"{name} must be at least 1, not {value}.")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the choices nearest to `name`, or an empty string."""
    lowered = {choice.lower(): choice for choice in choices}
    near = get_close_matches(name.lower(), lowered, n=3, cutoff=0.6)
    if not near:
        near = [choice for choice in lowered if name and name.lower() in choice][:3]
    if not near:
        return ""
    return " Did you mean " + " or ".join(repr(lowered[choice]) for choice in near) + "?"
