"""The places where texts start, kept in a file so that the next start need not count tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from flava_plugin import durable
from flava_plugin.data.layouts.packed_texts import PackedTexts, Packs
from flava_plugin.data.layouts.paragraphs import Paragraphs

FORMAT = "flava_plugin packed texts 1"


def key_of_packs(files: Sequence[Paragraphs], *options: str | int) -> str:
    """Hash what the places depend on.

    Args:
        files: The texts; their names, sizes and times of change count.
        *options: How they are packed, the vocabulary included.

    Returns:
        32 hex digits.
    """
    said = "\n".join([*map(str, options), *(file.identity for file in files)])
    return hashlib.blake2b(said.encode("utf-8"), digest_size=16).hexdigest()


def read_packs(path: Path, key: str, files: Sequence[Paragraphs]) -> PackedTexts | None:
    """Read places that an earlier start wrote.

    Args:
        path: The file.
        key: What they have to depend on.
        files: The texts.

    Returns:
        The texts; None where the file is not there or belongs to other texts or options.

    Raises:
        ValueError: It is no such file.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "np") as file:
            facts = file.metadata() or {}
            if facts.get("format") != FORMAT:
                raise ValueError("another format")
            if facts["key"] != key:
                return None
            columns: list[Any] = [file.get_tensor(name) for name in Packs._fields]
        coverage: dict[str, Any] = json.loads(facts["coverage"])
        packs = Packs(*columns)
        if len({column.shape for column in packs}) != 1 or packs.files.max() >= len(files):
            raise ValueError("its columns do not fit")
        return PackedTexts(files, packs, facts["fingerprint"], coverage)
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as error:
        raise ValueError(
            f"{path}: holds no places of packed texts ({error}); delete it, or name another file"
        ) from error


def write_packs(path: Path, key: str, texts: PackedTexts) -> None:
    """Write the places of texts; a crash leaves the old file or the new one.

    Args:
        path: The file.
        key: What they depend on.
        texts: The texts.

    Raises:
        ValueError: Its folder cannot be written to.
    """
    facts = {
        "format": FORMAT,
        "key": key,
        "fingerprint": texts.fingerprint,
        "coverage": json.dumps(texts.coverage),
    }
    columns = {name: np.array(column) for name, column in texts.packs._asdict().items()}
    try:
        durable.write_bytes(path, save(columns, facts))
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {error}") from error
