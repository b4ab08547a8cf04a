"""Generated images of which all is known: what is shown, where, how large and how turned."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from numpy.typing import NDArray

from dlarch.data.generators.shapes import FIGURES, Shapes, draw_shapes
from dlarch.data.image_sources import ImageSource, LabelledImage
from dlarch.data.images import ImageData
from dlarch.data.pixels import KNOWN
from dlarch.data.splits import SPLITS
from dlarch.errors import OptionError
from dlarch.registry import register_data

REFUSED = ("source", "classes", "crop", "flip", "cutout", "rotate", "scale", "shift")
"""Options of images that would make factors, masks and boxes wrong."""


@register_data("shapes")
class ShapesData(ImageData):
    """A square, ellipse or triangle of any size, place, angle and colour on black; no download.

    The figure is the class. Batches hold besides, for each image, its six factors, the class of
    each pixel and the box around the figure; see `dlarch.data.generators.shapes.Shapes`. All
    factors are drawn evenly and independently of each other.

    Args:
        size: number of training images; validation and test have a tenth of it each.
        side: of an image, in pixels.
        colour: coloured figures; else white ones in one channel.
        generator_seed: of the factors.
        options: those of `dlarch.data.images.ImageData` but `source`, `classes` and augmentation.
    """

    def __init__(
        self,
        size: int = 10_000,
        side: int = 64,
        colour: bool = True,
        generator_seed: int = 0,
        **options: Any,
    ) -> None:
        for name in REFUSED:
            if options.get(name):  # the command line gives defaults, too
                raise OptionError(f"shapes are drawn as they are known to be: leave out {name}.")
        super().__init__("shapes", **options)
        if size < 10 or side < 16:
            raise OptionError(
                f"shapes need at least 10 images of at least 16 pixels, not size={size}, "
                f"side={side}."
            )
        self.image_shape = (3 if colour else 1, side, side)  # type: ignore[misc]
        self.size, self.generator_seed = size, generator_seed

    def open_source(self) -> ImageSource:
        """The figures, which are drawn when they are read."""
        channels, side, _ = self.image_shape  # type: ignore[misc]
        return DrawnShapes(self.size, side, channels == 3, self.generator_seed)


class DrawnShapes(ImageSource):
    """Figures of a seed; each split has factors of its own."""

    def __init__(self, size: int, side: int, colour: bool, seed: int) -> None:
        self.content = {"shapes": [size, side, colour, seed]}

        @cache
        def drawn(split: str) -> Shapes:
            count = size if split == "train" else size // 10
            return draw_shapes(count, side, colour, len(SPLITS) * seed + SPLITS.index(split))

        self._drawn = drawn

    @property
    def class_names(self) -> list[str]:
        """The figures."""
        return list(FIGURES)

    @property
    def splits(self) -> list[str]:
        """All."""
        return list(SPLITS)

    def read(self, split: str) -> Iterator[LabelledImage]:
        """The images of a split with the numbers of their figures."""
        made = self._drawn(split)
        for pixels, factors in zip(made.pixels, made.factors, strict=True):
            yield pixels, int(factors[0])

    def known(self, split: str) -> dict[str, NDArray[Any]]:
        """Factors, masks and boxes."""
        return {name: getattr(self._drawn(split), name) for name in KNOWN}
