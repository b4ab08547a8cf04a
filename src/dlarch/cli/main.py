"""`dlarch VERB ...`: looks at the first word, and imports what that verb needs."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import dlarch
from dlarch.errors import OptionError, UnknownNameError, UserError, did_you_mean

# Verb: the module and function that take the words after it, and a line of help. Those of
# `dlarch.cli.lightning` take the verb too, as LightningCLI expects it.
VERBS = {
    "fit": ("dlarch.cli.lightning:run", "train a recipe's model on its data, then test it"),
    "validate": ("dlarch.cli.lightning:run", "score a checkpoint on the validation split"),
    "test": ("dlarch.cli.lightning:run", "score a checkpoint on the test split"),
    "predict": ("dlarch.cli.lightning:run", "write down what a checkpoint predicts"),
    "translate": ("dlarch.cli.translate:run", "translate text with a trained model"),
    "generate": ("dlarch.cli.generate:run", "write texts or draw images with a trained model"),
    "classify": ("dlarch.cli.classify:run", "tell the classes of images, texts or rows of numbers"),
    "map": ("dlarch.cli.map:run", "draw what a model has learnt in two dimensions"),
    "judge": ("dlarch.cli.judge:run", "how far images that models make are from real ones"),
    "sweep": ("dlarch.cli.sweep:run", "run a recipe under many settings and compare them"),
    "baseline": ("dlarch.cli.baseline:run", "what scikit-learn reaches on the same data"),
    "list": ("dlarch.cli.listing:run_list", "models, data and baselines, one per line"),
    "info": ("dlarch.cli.listing:run_info", "what a model or data module is; --layers its layers"),
    "recipes": ("dlarch.cli.listing:run_recipes", "list, show and copy the shipped recipes"),
    "results": ("dlarch.cli.results:run", "collect the metrics of runs in a table"),
    "doctor": ("dlarch.cli.doctor:run", "versions, environment variables, broken plugins"),
}
_WITH_VERB = "dlarch.cli.lightning:run"

_HELP = """\
usage: dlarch VERB [options]

Deep-learning architectures for PyTorch Lightning: train by recipe, use what was trained.

verbs:
{verbs}

`dlarch VERB --help` shows the options of a verb. To begin with:
  dlarch fit --config seq2seq_attn
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the words after `dlarch`; None takes those of this process.

    Returns:
        The exit code: 0, or 2 after a user's mistake, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        set_up_logging()
        here = str(Path.cwd())
        if here not in sys.path:  # so that a class in the user's folder is found
            sys.path.append(here)
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader, say `head`, has gone; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UserError, OSError) as error:
        if os.environ.get("DLARCH_DEBUG") == "1":
            raise
        print(f"dlarch: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dlarch: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        raise


def set_up_logging() -> None:
    """Send the log of dlarch to stderr, at the level $DLARCH_LOG; other ranks only report errors.

    Raises:
        OptionError: there is no such level.
    """
    level = (os.environ.get("DLARCH_LOG") or "INFO").upper()
    levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    if level not in levels:
        raise OptionError(
            f"DLARCH_LOG is '{level}'.{did_you_mean(level, levels)} Levels: {', '.join(levels)}."
        )
    logger = logging.getLogger("dlarch")
    logger.setLevel("ERROR" if os.environ.get("LOCAL_RANK", "0") != "0" else level)
    for handler in [handler for handler in logger.handlers if handler.get_name() == "cli"]:
        logger.removeHandler(handler)  # a second call in one process: stderr may be another
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name("cli")
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)


def _dispatch(words: list[str]) -> int:
    verb = words[0] if words else "--help"
    if verb in ("--help", "-h", "help"):
        width = max(map(len, VERBS))
        verbs = "\n".join(f"  {name:{width}}  {line}" for name, (_, line) in VERBS.items())
        print(_HELP.format(verbs=verbs), end="")
        return 0
    if verb == "--version":
        print(f"dlarch {dlarch.__version__}")
        return 0
    if verb not in VERBS:
        raise UnknownNameError(
            f"There is no verb '{verb}'.{did_you_mean(verb, VERBS)} `dlarch --help` lists them."
        )
    target = VERBS[verb][0]
    module, _, function = target.partition(":")
    run: Callable[[list[str]], int] = getattr(import_module(module), function)
    return run(words if target == _WITH_VERB else words[1:])
