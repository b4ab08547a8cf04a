"""What a decoder is fed in training: the reference, or now and then its own guess."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from dlarch.errors import OptionError, check_at_least_1

if TYPE_CHECKING:
    from dlarch.tasks.translator import Translator


class TeacherForcing(NamedTuple):
    """Share of training steps that are fed the reference, which may change in a straight line.

    Attributes:
        start: the share at first.
        end: the share reached after `steps`; as at first when None.
        steps: optimizer steps that the change takes.
    """

    start: float = 1.0
    end: float | None = None
    steps: int = 1000

    def checked(self) -> TeacherForcing:
        """The same.

        Raises:
            OptionError: a share outside 0 to 1, or no steps.
        """
        if not all(0.0 <= share <= 1.0 for share in (self.start, self.end or 0.0)):
            raise OptionError("teacher_forcing and teacher_forcing_end are shares, 0 to 1.")
        check_at_least_1(teacher_forcing_steps=self.steps)
        return self

    def share(self, step: int) -> float:
        """The share at an optimizer step."""
        if self.end is None:
            return self.start
        return self.start + (self.end - self.start) * min(1.0, step / self.steps)


def sampled_features(model: Translator, target: Tensor, memory: Any, share: float) -> Tensor:
    """Scheduled sampling (1506.03099): write a target, feeding own best guesses here and there.

    Args:
        model: whose decoder writes.
        target: (B, T), the reference.
        memory: what it knows of the source.
        share: of tokens fed that are the reference, drawn anew for each sentence and step.

    Returns:
        Features (B, T, F), as `model.decode` gives them.
    """
    state, token = model.first_state(memory), target[:, :1]
    features: list[Tensor] = []
    for place in range(target.shape[1]):
        step = model.advance(token, state, memory)
        features.append(step.features)
        state = step.state
        if place + 1 < target.shape[1]:
            with torch.no_grad():
                guess = model.project(step.features).argmax(-1)
            own = torch.rand(guess.shape, device=guess.device) >= share
            token = torch.where(own, guess, target[:, place + 1, None])
    return torch.cat(features, dim=1)
