"""Models that are built from facts of the data, given by hand or by the data module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from dlarch.compat.hooks import QuickHooks
from dlarch.errors import MismatchError
from dlarch.spec import FACT_NAMES, DataSpec, as_tuples, lacking_facts, needs_facts

CALLABLES = ("loss", "optimizer", "critic_optimizer", "scheduler", "initializer")
"""Arguments that shape training alone; they are kept in config.yaml, not among the hparams."""


class BuiltFromFacts(QuickHooks):
    """Makes its layers in the constructor when it knows enough, else from the data's spec.

    A subclass defines `build`, whose parameters are named in `dlarch.spec.FACT_NAMES`; nothing but
    `build` makes layers. Those with the default None are alternatives, of which one must be known:
    `num_classes` for classes, or `out_features` for numbers.
    """

    if TYPE_CHECKING:
        hparams: Any  # the constructor's arguments, as attributes and items
        build: Callable[..., None]

    def __init__(self) -> None:
        super().__init__()
        self._built = False

    def save_hyperparameters(self, *_: Any, **__: Any) -> None:
        """Keep the constructor's arguments as `hparams`, but for callables, as plain values.

        Of a model whose constructor calls that of another model, those of both are kept.
        """
        frame = inspect.currentframe()
        caller = frame.f_back if frame is not None else None
        if caller is None:  # pragma: no cover - CPython always has frames
            raise RuntimeError("save_hyperparameters must be called from the constructor")
        given = dict(caller.f_locals)
        outer = caller.f_back
        while outer is not None and _constructs(outer, self):
            given |= outer.f_locals
            outer = outer.f_back
        values = {
            name: as_tuples(given[name])
            for name in inspect.signature(type(self)).parameters
            if name in given and name not in CALLABLES
        }
        super().save_hyperparameters(values, logger=False)

    def build_if_known(self) -> None:
        """Build now when all the facts that `build` needs were given."""
        facts = {name: self.hparams[name] for name in self._fact_names()}
        if not lacking_facts(self.build, facts):
            self._build(facts)

    def configure_model(self) -> None:
        """Build from the data's spec, or compare the facts given by hand with it."""
        spec = getattr(self._trainer_data(), "spec", None)
        if self._built:
            if spec is not None:
                self._compare_facts(spec)
            return
        if spec is None:
            missing = lacking_facts(self.build, self.hparams)
            raise MismatchError(
                f"{type(self).__name__} must know {', '.join(missing)}: give the Trainer a dlarch "
                f"data module (datamodule=...), or the model {missing[0].split()[0]}=...."
            )
        self._build(
            {
                name: self.hparams[name] if self.hparams[name] is not None else getattr(spec, name)
                for name in self._fact_names()
            }
        )
        self._compare_facts(spec)

    def _build(self, facts: dict[str, Any]) -> None:
        lacking = lacking_facts(self.build, facts)
        if lacking:
            raise MismatchError(needs_facts(type(self).__name__, lacking))
        self.hparams.update(facts)
        self.build(**facts)
        self._built = True

    def _fact_names(self) -> list[str]:
        return [name for name in inspect.signature(self.build).parameters if name in FACT_NAMES]

    def _compare_facts(self, spec: DataSpec) -> None:
        for name in self._fact_names():
            mine, theirs = self.hparams[name], getattr(spec, name)
            if theirs is not None and mine != theirs:
                raise MismatchError(
                    f"The model was made for {name}={mine}, the data have {name}={theirs}: give "
                    "the data module the model's processor, or leave the fact to the data."
                )

    def _trainer_data(self) -> Any:
        return getattr(self._trainer, "datamodule", None) if self._trainer is not None else None


def _constructs(frame: FrameType, thing: object) -> bool:
    """Whether a frame is a constructor of this very thing."""
    return frame.f_code.co_name == "__init__" and frame.f_locals.get("self") is thing
