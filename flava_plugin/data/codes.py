"""Codebook targets that were computed before the run, by the index of a sample.

A folder holds ``codes.json``, which says of what they were made, and parts ``00000000.safetensors``
and so on, each with the codes of ``PART`` samples in the dataset's order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.identity import codebook_digest, fingerprint
from flava_plugin.sections_data import DataSection, ImageSection
from flava_plugin.types import Dataset

if TYPE_CHECKING:
    from torch import nn

FORMAT = "flava_plugin codes 1"
LIST = "codes.json"
PART = 65_536
"""Samples of a part: 51 MB at 196 codes."""

NONE = -1
"""All codes of a sample that could not be read."""

_OPEN = 16


class Codes:
    """The codes of one source.

    Args:
        folder: Of ``flava data codes``.
        about: Its ``codes.json``.
        number: Codes of the codebook; None where that is not known.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], number: int | None = None) -> None:
        self.folder = folder
        self.number = number
        self.about = about
        self.patches: int = about["patches"]
        self._open: dict[int, Any] = {}

    def of(self, index: int) -> NDArray[np.int64]:
        """Look up the codes of a sample.

        Args:
            index: Of the dataset.

        Returns:
            (P,) int64.

        Raises:
            DamagedSampleError: There are none: its picture could not be read when they were made,
                or the part is missing or damaged, or holds what is no code of the codebook.
        """
        part, row = divmod(index, PART)
        if part not in self._open:
            if len(self._open) >= _OPEN:
                self._open.pop(next(iter(self._open)))
            self._open[part] = self._opened(part)
        codes = self._open[part][row : row + 1]
        if codes.shape != (1, self.patches) or codes[0, 0] == NONE:
            raise DamagedSampleError("no codes", f"{self.folder}: sample {index} has none")
        found: NDArray[np.int64] = codes[0].astype(np.int64)
        lowest, highest = int(found.min()), int(found.max())
        if lowest < 0 or (self.number is not None and highest >= self.number):
            wrong = lowest if lowest < 0 else highest
            text = f"{self.folder}: sample {index} has {wrong}, of {self.number} codes"
            raise DamagedSampleError("no codes", text)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def _opened(self, part: int) -> Any:
        path = self.folder / part_name(part)
        try:
            file: Any = safe_open(path, framework="numpy")
            return file.get_slice("codes")
        except (OSError, SafetensorError) as error:
            raise DamagedSampleError("no codes", f"{path}: {error}") from error


def part_name(part: int) -> str:
    """Name the file of a part.

    Args:
        part: Its number.

    Returns:
        The name.
    """
    return f"{part:08d}.safetensors"


def settings(section: ImageSection) -> dict[str, Any]:
    """Give what decides which pixels the codebook sees.

    Args:
        section: The recipe's ``data.image``.

    Returns:
        Plain data, for JSON.
    """
    keys = {"size", "codebook_size", "codebook_range", "codebook_view", "decoder", "resize"}
    plain = section.model_dump(mode="json", include=keys)
    return {f"image.{key}": value for key, value in plain.items()}


def open_codes(
    section: DataSection, datasets: Mapping[str, Dataset], codebook: nn.Module | None
) -> dict[str, Codes]:
    """Open the codes of every source that has some.

    Args:
        section: The recipe's ``data``.
        datasets: A dataset for each source.
        codebook: The recipe's.

    Returns:
        Codes by source.

    Raises:
        ValueError: Codes are missing or were made of other data, pictures or another codebook;
            the text names every difference.
    """
    errors = []
    found = {}
    for name, source in section.sources.items():
        if source.codes is None:
            continue
        where = f"data.sources.{name}.codes: {source.codes}"
        try:
            about = json.loads((source.codes / LIST).read_text(encoding="utf-8"))
            wanted = about_codes(datasets[name], section.image, codebook)
            if not about["complete"]:
                raise ValueError("not finished")
            differ = [key for key in wanted if about[key] != wanted[key]]
            found[name] = Codes(source.codes, about, getattr(codebook, "num_codes", None))
        except (OSError, ValueError, KeyError, TypeError) as error:
            errors.append(f"{where}: holds no codes ({error}); make them by: flava data codes")
            continue
        if differ:
            said = "; ".join(f"{key} {about[key]!r} then, {wanted[key]!r} now" for key in differ)
            errors.append(
                f"{where}: were made of something else ({said}); make them anew by: flava data "
                "codes, or leave codes out"
            )
    if errors:
        raise ValueError("\n".join(errors))
    return found


def about_codes(
    dataset: Dataset, section: ImageSection, codebook: nn.Module | None
) -> dict[str, Any]:
    """Say of what codes are made.

    Args:
        dataset: Whose pictures.
        section: How they are looked at.
        codebook: By what.

    Returns:
        Plain data, for JSON.
    """
    return {
        "format": FORMAT,
        "dataset": fingerprint(dataset),
        "samples": len(dataset),
        **settings(section),
        "codebook": codebook_digest(codebook) if codebook is not None else "none",
    }
