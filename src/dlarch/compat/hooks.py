"""What Lightning does around each hook, made cheaper; a step has some eighty (checked with 2.6.6).

With a small network on a CPU the hooks of a step cost as much as the step itself.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L  # noqa: N812
from lightning.pytorch.profilers import PassThroughProfiler
from typing_extensions import override

_NOTHING: AbstractContextManager[Any] = nullcontext()


class NoProfiler(PassThroughProfiler):
    """Measures nothing, as Lightning's own does, but without a new generator for each hook."""

    @override
    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override]
        """A context that does nothing."""
        return _NOTHING


class QuickHooks(L.LightningModule):
    """A LightningModule on which the name of the running hook is noted quickly.

    Lightning sets it before and after each hook; torch would look each time whether the name is a
    parameter's, a buffer's or a module's.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)
