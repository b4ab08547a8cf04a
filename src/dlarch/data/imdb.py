"""Reviews of films: IMDB."""

from __future__ import annotations

from typing import Any

from dlarch.data.labelled_text import LabelledTextData
from dlarch.registry import register_data

LINE_BREAK = "<br />"


@register_data("imdb")
class IMDBData(LabelledTextData):
    """Reviews of films, good or bad: 25,000 for training and 25,000 for the test.

    There is no official validation split; 5 of 100 training reviews are carved for it. Line breaks,
    which stand in the reviews as `<br />`, become spaces.

    Args:
        source: Hub id, or a folder in the Hub's layout.
        options: those of `dlarch.data.labelled_text.LabelledTextData`.
    """

    def __init__(self, source: str = "stanfordnlp/imdb", **options: Any) -> None:
        super().__init__(source, **options)

    def mend(self, text: str) -> str:
        """A review without the signs of its page."""
        return " ".join(text.replace(LINE_BREAK, " ").split())
