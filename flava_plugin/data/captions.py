"""The wrong captions of ITM negatives."""

from __future__ import annotations

from flava_plugin.data.damage import raise_of_the_machine
from flava_plugin.data.order import Row
from flava_plugin.data.plain_text import plain
from flava_plugin.data.reading import attempt
from flava_plugin.types import Dataset, Sample


class Captions:
    """The captions of a global batch, from which negatives take theirs.

    A dataset may have ``read_text(index) -> str | None``, which spares decoding a picture for the
    sake of its caption.

    Args:
        dataset: Where they are.
        source: Its name.
    """

    def __init__(self, dataset: Dataset, source: str) -> None:
        self.dataset = dataset
        self.source = source
        self.known: dict[int, str | None] = {}

    def wrong_for(self, sample: Sample, row: Row) -> str | None:
        """Find the wrong caption of a negative.

        Args:
            sample: The row's sample.
            row: The row.

        Returns:
            The dataset's own hard negative, if the row wants it and there is one; else the first
            candidate's caption that differs, in more than case and spaces; None if there is none,
            and then the row stays a matched pair.
        """
        true = plain(sample.text)
        if row.hard and plain(sample.negative_text) not in ("", true):
            return sample.negative_text
        for key in row.candidates:
            text = self._text(key.index)
            if plain(text) not in ("", true):
                return text
        return None

    def _text(self, index: int) -> str | None:
        if index not in self.known:
            self.known[index] = self._read(index)
        return self.known[index]

    def _read(self, index: int) -> str | None:
        if hasattr(self.dataset, "read_text"):
            try:
                text: str | None = self.dataset.read_text(index)
            except (OSError, ValueError) as error:
                raise_of_the_machine(error)
                return None  # counted where the sample itself is read
            return text
        sample, _ = attempt(self.dataset, self.source, index, "pair")
        return sample.text
