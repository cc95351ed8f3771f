"""A part of an index: embeddings with their names, in memory or in a file.

Legend for shapes: n rows of the part, E embedding width.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """Rows of an index, in memory or in a file.

    Attributes:
        rows: n.
        held: Vectors and names; None where they are in the file.
        path: The file, or None.
    """

    rows: int
    held: tuple[Tensor, list[str]] | None = None
    path: Path | None = None

    def vectors(self) -> Tensor:
        """Read the vectors.

        Returns:
            (n, E) fp32, L2-normalised.
        """
        if self.held is not None:
            return self.held[0]
        with safe_open(str(self.path), "pt") as file:
            found: Tensor = file.get_tensor("vectors")
        return found

    def names(self, rows: Sequence[int]) -> list[str]:
        """Read some names.

        Args:
            rows: Places in the part.

        Returns:
            Their names.
        """
        if self.held is not None:
            return [self.held[1][row] for row in rows]
        with safe_open(str(self.path), "pt") as file:
            ends: list[int] = [0, *file.get_tensor("ends").tolist()]
            text = file.get_tensor("names").numpy().tobytes()
        return [text[ends[row] : ends[row + 1]].decode("utf-8") for row in rows]

    def write(self, path: Path) -> None:
        """Write the part.

        Args:
            path: The file.
        """
        if self.held is None:
            shutil.copyfile(str(self.path), path)
            return
        vectors, names = self.held
        encoded = [name.encode("utf-8") for name in names]
        ends = torch.tensor([len(each) for each in encoded], dtype=torch.int64).cumsum(0)
        joined = torch.frombuffer(bytearray(b"".join(encoded) or b" "), dtype=torch.uint8)
        tensors = {"vectors": vectors.contiguous(), "ends": ends, "names": joined}
        save_file(tensors, str(path))
