"""The verbs of LightningCLI: fit, validate, test, predict, with names, run folders and manners."""

from __future__ import annotations

import logging
import os
import time
import traceback
import warnings
from typing import Any

import torch
import yaml
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningCLI

from dlarch.cli.options import print_text
from dlarch.cli.summary import print_summary
from dlarch.cli.words import OWN_OPTIONS, Words, class_path, registry_name
from dlarch.compat.parser import (
    MODE,
    ComplaintError,
    Parser,
    flattened,
    forget_defaults_of_replaced_classes,
    install_names,
    prefer_torch_optim,
    prefer_whole_numbers,
    sentence,
)
from dlarch.errors import CheckpointError, MismatchError, OptionError, UserError
from dlarch.factory import check_batch_types
from dlarch.run_files import RunFiles, open_run
from dlarch.tasks.translator import Translator
from dlarch.training import (
    SAVE_EVERY_N_STEPS,
    finish,
    scoring_arguments,
    trainer_arguments,
)

logger = logging.getLogger(__name__)

QUIET = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning")
"""Loggers whose tips and notices are not for the user of a recipe."""


LONGEST_GIST = 400
"""Characters of a foreign error that are shown."""


def run(argv: list[str]) -> int:
    """Run a verb of LightningCLI; `argv` starts with the verb."""
    _silence()
    install_names(class_path, registry_name)
    prefer_torch_optim()
    prefer_whole_numbers()
    forget_defaults_of_replaced_classes()
    CommandLine(Words(argv))
    return 0


def _silence() -> None:
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
    warnings.filterwarnings("ignore", message="Detected pickle protocol")  # an error follows


class CommandLine(LightningCLI):
    """LightningCLI with registry names, run folders, the final test and a summary."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.files: RunFiles | None = None
        self.started = time.monotonic()
        try:
            super().__init__(
                model_class=LightningModule,
                datamodule_class=LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=None,
                seed_everything_default=1,
                parser_class=Parser,
                parser_kwargs={"parser_mode": MODE},
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
            )
        except BaseException as error:
            if self.files is not None:
                self.files.discard_if_unused()
            if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from error  # Lightning makes exit code 1 of it
            if isinstance(error, Exception):
                _explain(error, words, getattr(self, "trainer", None))
            raise

    # ---- parsing

    def init_parser(self, **options: Any) -> Parser:
        """A parser without abbreviations, which would take `--trainer.max_epoch` for another."""
        parser = super().init_parser(**{"allow_abbrev": False, "parser_mode": MODE, **options})
        assert isinstance(parser, Parser)
        return parser

    def add_arguments_to_parser(self, parser: Any) -> None:
        """What a run has besides model, data and trainer."""

        def add(name: str, kind: Any, default: Any) -> None:
            parser.add_argument(f"--{name}", type=kind, default=default, help=OWN_OPTIONS[name])

        add("test_after_fit", bool, True)
        add("score_train", bool, False)
        add("beam", int | None, None)
        add("length_penalty", float | None, None)
        add("name", str | None, None)
        add("monitor", str | None, None)
        add("save_every_n_steps", int, SAVE_EVERY_N_STEPS)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the verb that was typed: the others' parsers cost time."""
        every = LightningCLI.subcommands()
        return {self.words.verb: every[self.words.verb] | {"ckpt_path", "weights_only", "verbose"}}

    def parse_arguments(self, parser: Any, args: ArgsType) -> None:  # noqa: ARG002
        """Parse our words; sys.argv stays as it is, since DDP starts other ranks with it."""
        try:
            self.config = parser.parse_args(self.words.words)
        except ComplaintError as complaint:
            given = [name for name, _ in self.words.given]
            known = self.words.known_options()
            raise OptionError(sentence(str(complaint), given, known)) from complaint

    def _parse_ckpt_path(self) -> None:
        """Nothing: the checkpoint's configuration is the first --config already."""

    # ---- instantiating

    def before_instantiate_classes(self) -> None:
        """Refuse a pair that cannot work before anything is built."""
        check_batch_types(
            *(_imported(str(self._get(self.config, f"{kind}.class_path"))) for kind in _KINDS)
        )

    def instantiate_trainer(self, **options: Any) -> Trainer:
        """A Trainer with the run folder, checkpoints and signals of `dlarch.training`."""
        config = {**self._get(self.config_init, "trainer", default={}), **options}
        if self.words.verb != "fit":
            return Trainer(**scoring_arguments(config))
        model = registry_name("model", str(self._get(self.config, "model.class_path")))
        name = self._get(self.config_init, "name") or self.words.recipe or model
        self.files = open_run(name, self.words.checkpoint)
        asked = self._asked()
        self.files.config = yaml.safe_dump(asked, sort_keys=False, allow_unicode=True, width=100)
        if hasattr(self.model, "run_config"):
            self.model.run_config = asked
        return Trainer(
            **trainer_arguments(
                self.files,
                self.model,
                config,
                self._get(self.config_init, "monitor"),
                self._get(self.config_init, "save_every_n_steps"),
            )
        )

    def _set_decoding(self) -> None:
        """Tell a translator how test and predict search."""
        asked = {name: self._get(self.config_init, name) for name in ("beam", "length_penalty")}
        given = {name: value for name, value in asked.items() if value is not None}
        if not given:
            return
        if not isinstance(self.model, Translator):
            raise OptionError(f"--{next(iter(given))} is for models that translate: leave it out.")
        if self.words.verb == "validate":
            raise OptionError("Validation is always greedy: leave out --beam and --length_penalty.")
        self.model.decode_with(**given)

    def after_instantiate_classes(self) -> None:
        """Hand the checkpoint's processor to the data, and to the model what wins over it."""
        self._set_decoding()
        stored = self.words.stored
        if stored is None:
            return
        if hasattr(self.datamodule, "processor"):
            self.datamodule.processor = stored.processor()
        before = _values(stored.values.get("config") or {})
        if not before:
            return
        changed = {
            name: (before.get(name), value)
            for name, value in _values(self._asked()).items()
            if before.get(name) != value
        }
        for option in getattr(self.datamodule, "processor_options", ()):
            theirs, ours = changed.get(f"data.{option}", (None, None))
            if ours:
                raise MismatchError(
                    f"data.{option} is {ours} here and {theirs} in the checkpoint, whose "
                    "vocabulary is used: leave it out, or train anew without --ckpt_path."
                )
        if self.words.verb != "fit":
            return
        for name, (theirs, ours) in changed.items():
            if name == "model.scheduler" or name.startswith("model.scheduler."):
                raise MismatchError(
                    f"{name} is {ours} here and {theirs} in the checkpoint, whose schedule goes "
                    "on: resume with the same, or train anew without --ckpt_path."
                )
        for argument in getattr(self.model, "optimizer_arguments", ()):
            self.model.optimizer_overrides[argument] = [
                name.rpartition(".")[2] for name in changed if name.startswith(f"model.{argument}.")
            ]

    def _asked(self) -> dict[str, Any]:
        """The configuration, as it is written into the run folder."""
        config = self.config[self.subcommand].clone()
        for key in ("config", "ckpt_path", "weights_only"):
            config.pop(key, None)
        text = self._parser(self.subcommand).dump(config, skip_none=False)
        values: dict[str, Any] = yaml.safe_load(text)
        return self._as_first_asked(values)

    def _as_first_asked(self, values: dict[str, Any]) -> dict[str, Any]:
        """A configuration with what the checkpoint's model replaced as it was before."""
        stored = self.words.stored
        before = (stored.values.get("config") or {}) if stored is not None else {}
        arguments = (before.get("model") or {}).get("init_args") or {}
        for name, value in self.words.resolved.items():
            mine = values["model"]["init_args"]
            if name in arguments and mine.get(name) == value:
                mine[name] = arguments[name]
        return values

    # ---- running

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        options = super()._prepare_subcommand_kwargs(subcommand)
        checkpoint = self.words.checkpoint
        options["ckpt_path"] = None if checkpoint is None else str(checkpoint)
        options["weights_only"] = True
        return options

    def after_fit(self) -> None:
        """Test the best checkpoint and say how it went."""
        assert self.files is not None
        if self.trainer.global_step == self.words.resumed_step:
            logger.warning(
                "There was nothing left to train: the run had come to its end, step %d. Give a "
                "larger --trainer.max_steps or --trainer.max_epochs to go on.",
                self.trainer.global_step,
            )
        result = finish(
            self.trainer,
            self.model,
            self.datamodule,
            self.files,
            self.started,
            test=bool(self._get(self.config_init, "test_after_fit")),
            score_train=bool(self._get(self.config_init, "score_train")),
            recipe=self.words.recipe,
        )
        if self.trainer.is_global_zero:
            print_summary(result, self.model)

    def validate(self, **options: Any) -> None:
        """Score the validation split and print the figures."""
        self.trainer.validate(**options, verbose=False)
        self._print_metrics()

    def test(self, **options: Any) -> None:
        """Score the test split and print the figures."""
        self.trainer.test(**options, verbose=False)
        self._print_metrics()

    def predict(self, **options: Any) -> None:
        """Print what the model predicts, one example a line.

        Raises:
            OptionError: several devices, each of which would predict a part.
        """
        if self.trainer.world_size > 1:
            raise OptionError("predict prints the examples in their order: use one device.")
        for batch in self.trainer.predict(**options) or ():
            for line in batch:
                print_text(str(line))

    def _print_metrics(self) -> None:
        if self.trainer.is_global_zero:
            for name, value in sorted(self.trainer.callback_metrics.items()):
                print(f"{name}\t{float(value):.6g}")


_KINDS = ("model", "data")


def _values(config: dict[str, Any]) -> dict[str, Any]:
    """Each option of a configuration with its value, or the list of its values."""
    found: dict[str, list[Any]] = {}
    for name, value in flattened(config):
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _imported(path: str) -> type[Any]:
    module, _, name = path.rpartition(".")
    loaded: type[Any] = getattr(__import__(module, fromlist=[name]), name)
    return loaded


def _explain(error: Exception, words: Words, trainer: Trainer | None) -> None:
    """Raise a UserError for what options and checkpoints, not bugs, lead to; return for others.

    Until the first step, whatever comes of a configuration is taken for its fault, and whatever
    comes of a checkpoint also in the first step. Later a traceback is worth more.

    Raises:
        UserError: with the gist of `error`.
    """
    if isinstance(error, UserError | OSError):
        return
    said = _said_within(error)
    if said is not None:
        raise said from error
    if isinstance(error, torch.cuda.OutOfMemoryError):
        raise OptionError(
            "The device has too little memory: lower --data.batch_size, or use "
            "--trainer.precision bf16-mixed."
        ) from error
    gist = " ".join(str(error).split()).rstrip(".")
    if not gist or isinstance(error, LookupError | AttributeError):
        gist = f"{type(error).__name__}: {gist}"
    gist = gist if len(gist) <= LONGEST_GIST else gist[:LONGEST_GIST] + "..."
    where = "" if os.environ.get("DLARCH_DEBUG") else " (DLARCH_DEBUG=1 shows where.)"
    called = _functions(error)
    if words.stored is not None and trainer is not None:
        first = trainer.global_step == words.resumed_step or words.verb != "fit"
        restoring = any("restore" in name or "load" in name for name in called)
        if restoring or (first and _in_a_step(called)):
            raise CheckpointError(
                f"{words.checkpoint} cannot be used here, or is damaged: {gist}.{where}"
            ) from error
    if _in_an_optimizer(error) and trainer is not None and trainer.global_step == 0:
        raise OptionError(f"The optimizer cannot train this model: {gist}.{where}") from error
    if isinstance(error, MisconfigurationException) or not _in_a_step(called):
        raise OptionError(f"{gist}.{where}") from error


def _said_within(error: BaseException) -> UserError | None:
    """What a constructor said, before jsonargparse wrapped it into complaints of its own."""
    within = error.__cause__ or error.__context__
    while within is not None and not isinstance(within, UserError):
        within = within.__cause__ or within.__context__
    return within


def _functions(error: Exception) -> list[str]:
    """Names of the functions that an error came through."""
    frames = traceback.walk_tb(error.__traceback__)
    return [frame.f_code.co_name for frame, _ in frames]


def _in_an_optimizer(error: Exception) -> bool:
    """Whether an optimizer of torch raised it."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).startswith("torch.optim")


def _in_a_step(functions: list[str]) -> bool:
    """Whether a batch was being worked on."""
    return any(name.endswith("_step") for name in functions)
