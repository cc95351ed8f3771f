"""What tells one state of a dataset or a codebook from another."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from flava_plugin.types import Dataset

if TYPE_CHECKING:
    from torch import nn


def fingerprint(dataset: Dataset) -> str:
    """Name the state of a dataset.

    Args:
        dataset: The dataset.

    Returns:
        Its own ``fingerprint``; where it has none, its length.
    """
    return str(getattr(dataset, "fingerprint", f"{len(dataset)} samples"))


def digest_of_file(path: Path, size: int) -> tuple[str, int]:
    """Hash a file's content.

    Args:
        path: The file.
        size: Bytes of the hash.

    Returns:
        The hash (blake2b) in hex digits, and how many bytes the file has.
    """
    content, length = blake2b(digest_size=size), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
            length += len(block)
    return content.hexdigest(), length


def codebook_digest(codebook: nn.Module) -> str:
    """Name what a codebook has learnt.

    Args:
        codebook: A registered codebook, built.

    Returns:
        16 hex digits of its type, tensors and names.
    """
    content = blake2b(type(codebook).__name__.encode(), digest_size=8)
    for name, tensor in sorted(codebook.state_dict().items()):
        content.update(f"{name} {tuple(tensor.shape)};".encode())
        content.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return content.hexdigest()
