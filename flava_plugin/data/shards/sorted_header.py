"""The same tensors and metadata -> the same bytes of a safetensors file, each time."""

from __future__ import annotations

import json
import struct


def sort_header(data: bytes) -> bytes:
    """Put the metadata of a safetensors file in the order of their keys.

    The library writes them in the order of a hash table that is new in each process.

    Args:
        data: The whole file.

    Returns:
        The whole file; only its header's order, and so perhaps its padding, is another.
    """
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    about = header.pop("__metadata__", None)
    if about is not None:
        header = {"__metadata__": dict(sorted(about.items())), **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    return struct.pack("<Q", len(text)) + text + data[8 + length :]
