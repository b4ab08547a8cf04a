"""The batches that data modules yield and tasks understand: one NamedTuple per kind of problem.

The leading fields are what a plain `(x, y)` DataLoader yields, so that a task can wrap anybody's
batch as `batch_type(*batch)`; what follows is optional.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from dlarch.spec import PAD


class TranslationBatch(NamedTuple):
    """Sentence pairs, padded with `PAD` on the right.

    Attributes:
        source: (B, S) ids, each row ends with EOS.
        target: (B, T) ids, each row starts with BOS and ends with EOS.
        example: (B,) position of each pair in its split, or None.
        source_text: the B sources as they were written, or None.
        target_text: the B references as they were written, or None.
    """

    source: Tensor
    target: Tensor
    example: Tensor | None = None
    source_text: list[str] | None = None
    target_text: list[str] | None = None

    @property
    def source_mask(self) -> Tensor:
        """(B, S), True on real tokens."""
        return self.source != PAD

    @property
    def target_mask(self) -> Tensor:
        """(B, T), True on real tokens."""
        return self.target != PAD


class TextBatch(NamedTuple):
    """Texts, or windows of a long one, padded with `PAD` on the right.

    Attributes:
        tokens: (B, T) ids. A text starts with BOS and ends with EOS. A window of a long text starts
            with the token before it, or with BOS, and ends anywhere.
        label: (B,) class of each text, or None.
        example: (B,) position of each text in its split, of a window that of its second token; or
            None.
        text: the B texts as they were written, or None.
        goes_on: (B,) True on rows that go on where the same row of the batch before ended; None
            where none does.
    """

    tokens: Tensor
    label: Tensor | None = None
    example: Tensor | None = None
    text: list[str] | None = None
    goes_on: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        """(B, T), True on real tokens."""
        return self.tokens != PAD


class ImageBatch(NamedTuple):
    """Images of one size.

    Attributes:
        image: (B, C, H, W), normalised to mean 0 and deviation 1 over the training split.
        label: (B,) class of each image.
        example: (B,) position of each image in its split, or None.
        factors: (B, F) numbers that made the image, where they are known, or None.
        mask: (B, H, W) class of each pixel, 0 where nothing is, or None.
        box: (B, 4) left, top, right and bottom edge of what is shown, in pixels, or None.
    """

    image: Tensor
    label: Tensor
    example: Tensor | None = None
    factors: Tensor | None = None
    mask: Tensor | None = None
    box: Tensor | None = None


class TableBatch(NamedTuple):
    """Rows of numbers.

    Attributes:
        features: (B, F), normalised to mean 0 and deviation 1 over the training split.
        target: (B,) class of each row, or (B, O) numbers to predict.
        example: (B,) position of each row in its split, or None.
    """

    features: Tensor
    target: Tensor
    example: Tensor | None = None


class SequenceBatch(NamedTuple):
    """Sequences of numbers, of one length.

    Attributes:
        sequence: (B, T, F).
        target: (B, O) numbers to say at the end of each sequence, or (B, T, O) after each step.
        example: (B,) position of each sequence in its split, or None.
    """

    sequence: Tensor
    target: Tensor
    example: Tensor | None = None


class Modes(NamedTuple):
    """The Gaussians that rows of numbers were drawn from, in equal parts.

    Attributes:
        centres: (K, F), normalised as the features are.
        deviation: (F,), their common standard deviation, normalised likewise.
    """

    centres: Tensor
    deviation: Tensor
