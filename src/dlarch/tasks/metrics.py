"""Metrics whose sums add up over batches and ranks."""

from __future__ import annotations

import numpy as np
import torch
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor
from torchmetrics import Metric


class Ratio(Metric):
    """A sum divided by a count, over the whole epoch and all ranks."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, exponential: bool = False, root: bool = False) -> None:
        super().__init__()
        self.exponential, self.root = exponential, root
        self.add_state("total", torch.zeros((), dtype=torch.float32), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float32), dist_reduce_fx="sum")

    def update(self, total: Tensor | float, count: Tensor | float) -> None:
        """Add a sum and what it was summed over."""
        self.total = self.total + total
        self.count = self.count + count

    def compute(self) -> Tensor:
        """The ratio, its exponential (perplexity) or root; NaN when nothing was counted."""
        ratio: Tensor = self.total / self.count
        if self.root:
            return ratio.sqrt()
        return ratio.exp() if self.exponential else ratio


class CorpusBleu(Metric):
    """sacreBLEU of a corpus, in percent, from counts that add up over batches and ranks.

    Args:
        tokenize: sacreBLEU's tokenizer; "none" for text that is tokenised already.
        lowercase: compare in lower case.
    """

    full_state_update = False
    counts: Tensor
    lengths: Tensor

    def __init__(self, tokenize: str = "13a", lowercase: bool = False) -> None:
        super().__init__()
        # `force`: tokenised input is meant, sacreBLEU need not warn of it
        self.bleu = BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
        self.bleu.num_refs = 1  # the signature tells it
        self.add_state("counts", torch.zeros(2, 4, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("lengths", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, hypotheses: list[str], references: list[str]) -> None:
        """Add translations, one reference each."""
        if not hypotheses:
            return
        score = self.bleu.corpus_score(hypotheses, [references])
        counts = torch.tensor([score.counts, score.totals], dtype=torch.int64)
        lengths = torch.tensor([score.sys_len, score.ref_len], dtype=torch.int64)
        self.counts = self.counts + counts.to(self.counts.device)
        self.lengths = self.lengths + lengths.to(self.lengths.device)

    def compute(self) -> Tensor:
        """BLEU, 0 to 100."""
        score = BLEU.compute_bleu(
            correct=[int(n) for n in self.counts[0]],
            total=[int(n) for n in self.counts[1]],
            sys_len=int(self.lengths[0]),
            ref_len=int(self.lengths[1]),
            smooth_method=self.bleu.smooth_method,
            smooth_value=self.bleu.smooth_value,
        )
        return torch.tensor(score.score, dtype=torch.float32, device=self.counts.device)

    @property
    def signature(self) -> str:
        """Signature of sacreBLEU, which makes the figure comparable."""
        return str(self.bleu.get_signature())


class Confusion(Metric):
    """Counts of true and predicted classes.

    Args:
        classes: K, number of classes.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        counts = torch.zeros(classes, classes, dtype=torch.int64)
        self.add_state("counts", counts, dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add predicted and true classes, each (B,)."""
        pairs = labels * self.classes + predicted
        found = pairs.bincount(minlength=self.classes**2)
        self.counts = self.counts + found.view(self.classes, self.classes)

    def compute(self) -> Tensor:
        """(K, K), a row for each true class."""
        return self.counts


class MacroRecall(Confusion):
    """Mean over the classes that occur of the share that is found, 0 to 1."""

    def compute(self) -> Tensor:
        """The mean; NaN when nothing was counted."""
        counts = self.counts.float()
        occurring = counts.sum(1) > 0
        shares: Tensor = counts.diagonal()[occurring] / counts.sum(1)[occurring]
        return shares.mean()


class ActiveUnits(Metric):
    """Dimensions of a code that tell texts or images apart (Burda et al., 1509.00519).

    Those whose mean, given the input, has a variance over the inputs above a threshold.

    Args:
        size: D, dimensions of the code.
        threshold: the variance that is needed.
    """

    full_state_update = False
    total: Tensor
    squares: Tensor
    count: Tensor

    def __init__(self, size: int, threshold: float = 0.01) -> None:
        super().__init__()
        self.threshold = threshold
        self.add_state("total", torch.zeros(size), dist_reduce_fx="sum")
        self.add_state("squares", torch.zeros(size), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, means: Tensor) -> None:
        """Add the mean codes of inputs, (B, D)."""
        self.total = self.total + means.sum(0)
        self.squares = self.squares + means.square().sum(0)
        self.count = self.count + len(means)

    def compute(self) -> Tensor:
        """How many there are, 0 to D."""
        variance = self.squares / self.count - (self.total / self.count).square()
        return (variance > self.threshold).sum().float()


class IdleUnits(Metric):
    """Units of a code that are active for no input at all.

    Args:
        size: D, units of the code.
    """

    full_state_update = False
    active: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.add_state("active", torch.zeros(size), dist_reduce_fx="sum")

    def update(self, active: Tensor) -> None:
        """Add which units were active for inputs, (B, D)."""
        self.active = self.active + active.sum(0)

    def compute(self) -> Tensor:
        """How many there are, 0 to D."""
        return (self.active == 0).sum().float()


def edit_distance(one: str, other: str) -> int:
    """Characters to change, add or delete on the way from one text to the other (Levenshtein)."""
    if one == other:
        return 0
    letters, places = np.array(list(other)), np.arange(len(other) + 1)
    row = places
    for count, letter in enumerate(one, start=1):
        above = np.minimum(row[1:] + 1, row[:-1] + (letters != letter))
        # What is added after the best place so far costs one each.
        row = np.minimum.accumulate(np.concatenate(([count], above)) - places) + places
    return int(row[-1])
