"""Two coloured halves and a question with two right answers."""

from __future__ import annotations

from PIL import Image

from flava_plugin import Sample

COLOURS = ("red", "green", "blue", "white")


class _ColourQuestions:
    def __init__(self, size: int, side: int) -> None:
        self._size, self._side = size, side

    def __len__(self) -> int:
        return self._size

    def read(self, index: int, /) -> Sample:
        left, right = COLOURS[index % 4], COLOURS[index // 4 % 4]
        picture = Image.new("RGB", (self._side, self._side), left)
        picture.paste(Image.new("RGB", (self._side // 2, self._side), right), (self._side // 2, 0))
        answers = [1.0 if colour in (left, right) else 0.0 for colour in COLOURS]
        return Sample(image=picture, text="which colours are there", extra={"answers": answers})


def colour_questions(*, size: int = 64, side: int = 32) -> _ColourQuestions:
    """Pictures of two colours, and the colours as soft labels ``answers``.

    Args:
        size: Number of questions.
        side: Pixels of a side.

    Returns:
        The dataset.
    """
    return _ColourQuestions(size, side)
