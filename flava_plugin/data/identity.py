"""What tells one state of a dataset or a codebook from another."""

from __future__ import annotations

from hashlib import blake2b
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
