"""Kneser-Ney smoothing: an n-gram language model that counts instead of descending gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import DataError, OptionError, check_at_least_1


class KneserNey(nn.Module):
    r"""Interpolated Kneser-Ney n-gram language model over token ids.

    (Kneser and Ney 1995, "Improved backing-off for m-gram language modeling"; interpolated as in
    Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling".)
    Each order discounts its counts and gives what it saves to the order below:

    $$p_k(w | h) = \frac{\max(c_k(h w) - D_k, 0) + D_k N_k(h) \, p_{k-1}(w | h')}{c_k(h)}$$

    where h' is h without its oldest token, N_k(h) the number of different tokens seen after h, and
    c_k(h) the sum of c_k(h w) over w. At the top order c_n counts how often h w was seen; below,
    how many different tokens were seen before it. $p_k(w | h) = p_{k-1}(w | h')$ when h was never
    seen, and $p_0$ is uniform over the ids that can be predicted; so is all before anything is
    counted.

    Before its first token, and before a start token, a sequence is taken to consist of start
    tokens. Neither they nor padding are ever predicted.

    All tables are integer buffers: they move and are saved with the module that holds them, and no
    cast to half precision harms them. Loading gives them the sizes of what is loaded.

    Args:
        order: n, the number of tokens of the longest n-grams; a context has n - 1.
        vocab_size: V.
        discount: D, from 0 to 1, of all orders or of each, from 1 to n. Lower orders have use for
            less, long n-grams for nearly 1.
        add: when given, no lower order is used, and this is added to every count of the top order:
            $p(w | h) = (c(h w) + a) / (c(h) + a K)$, with K the number of ids to predict.
        predictable: ids that can be predicted; all but padding and start when not given.
        padding_id: of padding, anywhere in a row.
        start_id: of the token that begins a sequence.

    Raises:
        OptionError: a value that makes no distribution.
    """

    predictable: Tensor
    stream: Tensor

    def __init__(
        self,
        order: int,
        vocab_size: int,
        discount: float | Sequence[float] = 0.75,
        *,
        add: float | None = None,
        predictable: Sequence[int] | None = None,
        padding_id: int = 0,
        start_id: int = 2,
    ) -> None:
        super().__init__()
        check_at_least_1(order=order)
        discounts = [discount] * order if isinstance(discount, int | float) else list(discount)
        if len(discounts) != order or not all(0 <= value <= 1 for value in discounts):
            raise OptionError(
                f"The discount is {discount}: give a number from 0 to 1, or {order}, one by order."
            )
        if add is not None and not 0 < add < float("inf"):
            raise OptionError(f"{add} cannot be added to counts: give a positive number.")
        never = {padding_id, start_id}
        ids = sorted(set(range(vocab_size)) - never if predictable is None else set(predictable))
        if not ids or ids[0] < 0 or ids[-1] >= vocab_size or never & set(ids):
            raise OptionError(
                f"`predictable` must be ids from 0 to {vocab_size - 1}, at least one, without those"
                f" of padding ({padding_id}) and start ({start_id})."
            )
        self.order, self.vocab_size, self.discounts, self.add = order, vocab_size, discounts, add
        self.padding_id, self.start_id = padding_id, start_id
        levels = nn.ModuleList(_Level(vocab_size) for _ in range(order))
        self.levels = cast("Sequence[_Level]", levels)
        self.register_buffer("predictable", torch.isin(torch.arange(vocab_size), torch.tensor(ids)))
        # Text that `finish` has not counted yet, ~id where a token is context only.
        self.register_buffer("stream", torch.empty(0, dtype=torch.int32))
        self._pieces: list[Tensor] = []

    def update(self, tokens: Tensor, context: int = 0) -> None:
        """Take in sequences; the order in which they come does not matter.

        Args:
            tokens: ids, (B, T), padded.
            context: number of tokens at the beginning of each row that are not counted, since they
                only precede it: n - 1 of them when the row is a window of a longer text.

        Raises:
            DataError: tokens are no ids, or are not among those that can be predicted.
        """
        rows = self._rows(tokens).to(self.stream.device)
        counted = rows != self.start_id
        counted[:, : 1 + context] = False
        if foreign := rows[counted][~self.predictable[rows[counted]]].tolist():
            raise DataError(
                f"Token id {foreign[0]} is in the text, but not in `predictable`: add it there."
            )
        self._pieces.append(torch.where(counted, rows, ~rows).flatten().int())

    @torch.no_grad()
    def finish(self, keep: bool = False) -> None:
        """Make the tables of the text that came.

        Args:
            keep: more text follows, to be counted together with this; else it is forgotten.

        Raises:
            DataError: nothing came.
        """
        self._join_pieces()
        counted = self.stream >= 0
        if not counted.any():
            raise DataError("There is no token to count: call `update` with text before `finish`.")
        ids = torch.where(counted, self.stream, ~self.stream).long()
        if not keep:
            self.stream = self.stream.new_empty(0)
        positions = counted.nonzero()[:, 0]
        tokens, index, size = ids[positions], torch.zeros_like(positions), self.vocab_size
        below: tuple[_Level, Tensor] | None = None
        for level, older in zip(self.levels, self._older(ids, positions), strict=True):
            level.contexts, index = torch.unique(index * size + older, return_inverse=True)
            level.ngrams, ngram, counts = torch.unique(
                index * size + tokens, return_inverse=True, return_counts=True
            )
            if below is not None:
                # Each different n-gram counts once for the shorter one at its end.
                lower, shorter = below
                ends = torch.empty_like(level.ngrams).scatter_(0, ngram, shorter)
                lower.set_counts(torch.bincount(ends))
            level.set_counts(counts)
            below = level, ngram

    def forget(self) -> None:
        """Empty the tables, and drop the text that is not counted yet."""
        self._pieces = []
        for name, table in self.named_buffers():
            if name != "predictable":
                self._replace(name, table.new_empty(0))

    @torch.no_grad()
    def log_probability(self, context: Tensor) -> Tensor:
        """Distribution of the next token, in nats.

        Args:
            context: ids, (B, L) of any length L, of which the last n - 1 matter; padding on the
                left is allowed, on the right it is not.

        Returns:
            (B, V), float32; -inf at ids that are never predicted.

        Raises:
            DataError: tokens are no ids.
        """
        rows = self._rows(context)
        ends = torch.arange(1, len(rows) + 1, device=rows.device) * rows.shape[1]
        return self._probability(rows.flatten(), ends, None).log()

    @torch.no_grad()
    def score(self, tokens: Tensor) -> Tensor:
        """Log-probability of each token but the first, given what precedes it, in nats.

        To score a window of a longer text, let it begin with n - 1 tokens of context, and drop
        the first n - 2 values.

        Args:
            tokens: ids, (B, T), padded.

        Returns:
            (B, T - 1), float32; 0 at padding and start tokens, -inf at others never predicted.

        Raises:
            DataError: tokens are no ids.
        """
        rows = self._rows(tokens)
        targets = rows[:, 2:]
        positions = torch.arange(rows.numel(), device=rows.device).view_as(rows)[:, 2:].flatten()
        found = self._probability(rows.flatten(), positions, targets.flatten()).log()
        return found.view_as(targets).masked_fill(targets == self.start_id, 0)

    def make_room(self, state_dict: Mapping[str, Any], prefix: str = "") -> None:
        """Give the tables the sizes of those in a state dict, under names that begin with `prefix`.

        `load_state_dict` does so by itself; call it where shapes are compared before.
        """
        self._pieces = []
        for name, table in self.named_buffers():
            stored = state_dict.get(prefix + name)
            # The size of `predictable` is that of the vocabulary, which must not differ.
            if isinstance(stored, Tensor) and name != "predictable":
                self._replace(name, table.new_empty(stored.shape))

    def _replace(self, name: str, table: Tensor) -> None:
        owner, _, attribute = name.rpartition(".")
        setattr(self.get_submodule(owner), attribute, table)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *others: Any, **options: Any
    ) -> None:
        self.make_room(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *others, **options)

    def _save_to_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._join_pieces()
        super()._save_to_state_dict(*arguments, **options)

    def _join_pieces(self) -> None:
        pieces = [piece.to(self.stream.device) for piece in self._pieces]
        self.stream, self._pieces = torch.cat((self.stream, *pieces)), []

    def _rows(self, tokens: Tensor) -> Tensor:
        """Rows (B, 1 + T) that begin with a start token, and have start tokens for padding."""
        if tokens.ndim != 2 or tokens.dtype == torch.bool or tokens.is_floating_point():
            kind = f"{tokens.dtype} of {tokens.ndim} dimensions"
            raise DataError(f"Tokens are {kind}: give whole ids of shape (B, T).")
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.vocab_size:
            raise DataError(
                f"Token ids must be from 0 to {self.vocab_size - 1}, not {int(tokens.min())} to "
                f"{int(tokens.max())}: encode the text with the vocabulary of the model."
            )
        tokens = tokens.long().masked_fill(tokens == self.padding_id, self.start_id)
        return F.pad(tokens, (1, 0), value=self.start_id)

    def _older(self, stream: Tensor, positions: Tensor) -> Iterator[Tensor]:
        """What each level adds to contexts (P,): nothing (0), the last token, the one before..."""
        yield torch.zeros_like(positions)
        places = positions - 1
        for _ in range(1, self.order):
            tokens = stream[places]
            yield tokens
            places = torch.where(tokens == self.start_id, places, places - 1)

    def _probability(self, stream: Tensor, positions: Tensor, tokens: Tensor | None) -> Tensor:
        """Of tokens (P,), or of all, (P, V), after what precedes positions (P,) of a stream."""
        base = self.predictable.float() / self.predictable.sum()
        probability = base.expand(len(positions), -1) if tokens is None else base[tokens]
        if not len(self.levels[0].contexts):
            return probability
        index = torch.zeros_like(positions)
        steps = zip(self.levels, self.discounts, self._older(stream, positions), strict=True)
        for level, discount, older in steps:
            index = _find(level.contexts, index * self.vocab_size + older)
            if self.add is not None and level is not self.levels[-1]:
                continue
            counts, total, kinds = level.look_up(index, tokens)
            if self.add is not None:
                given = self.add * self.predictable.sum()
                probability = (counts + given * probability) / (total + given)
            else:
                mixed = ((counts - discount).clamp(min=0) + discount * kinds * probability) / total
                probability = torch.where(total > 0, mixed, probability)
        return probability


class _Level(nn.Module):
    """The n-grams of one order: M different ones with C different contexts, both sorted.

    Both are numbers that fit 64 bits in any order: V times the index of something shorter, plus a
    token. A context is its newer tokens, in the level below, and its oldest one; an n-gram is its
    context and the token after it.
    """

    contexts: Tensor  # (C,)
    ngrams: Tensor  # (M,)
    counts: Tensor  # (M,)
    totals: Tensor  # (C,), sums of the counts by context
    offsets: Tensor  # (C + 1,), where the n-grams of each context begin

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        for name in ("contexts", "ngrams", "counts", "totals", "offsets"):
            self.register_buffer(name, torch.empty(0, dtype=torch.long))

    def set_counts(self, counts: Tensor) -> None:
        """Keep counts (M,) and what follows from them."""
        firsts = torch.arange(len(self.contexts) + 1, device=counts.device) * self.vocab_size
        self.counts, self.offsets = counts, torch.searchsorted(self.ngrams, firsts)
        sums = F.pad(counts.cumsum(0), (1, 0))
        self.totals = sums[self.offsets].diff()

    def look_up(self, index: Tensor, tokens: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Counts of tokens (P,), or of all, (P, V); totals and numbers of different tokens.

        The index of a context (P,) is -1 when it was never seen.
        """
        seen, known = index >= 0, index.clamp(min=0)
        first = self.offsets[known]
        total = torch.where(seen, self.totals[known], 0)
        kinds = torch.where(seen, self.offsets[known + 1] - first, 0)
        if tokens is not None:
            place = _find(self.ngrams, index * self.vocab_size + tokens)
            return torch.where(place >= 0, self.counts[place], 0).float(), total, kinds
        counts = torch.zeros(len(index), self.vocab_size, device=index.device)
        row = torch.arange(len(index), device=index.device).repeat_interleave(kinds)
        place = torch.arange(len(row), device=index.device) + (first + kinds - kinds.cumsum(0))[row]
        counts[row, self.ngrams[place] % self.vocab_size] = self.counts[place].float()
        return counts, total[:, None], kinds[:, None]


def _find(codes: Tensor, wanted: Tensor) -> Tensor:
    """Index of each code in sorted codes; -1 where it is not there."""
    place = torch.searchsorted(codes, wanted).clamp(max=len(codes) - 1)
    return torch.where(codes[place] == wanted, place, -1)
