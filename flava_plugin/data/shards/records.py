"""What the text, JSON and class members of a sample say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from flava_plugin.data.damage import DamagedSampleError

_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


def text_of(content: bytes) -> str:
    """Decode a text.

    Args:
        content: UTF-8.

    Returns:
        The text without the space around it.

    Raises:
        DamagedSampleError: It is empty or no UTF-8.
    """
    try:
        text = content.decode().removeprefix(_BOM).strip()
    except UnicodeDecodeError as error:
        raise DamagedSampleError("text is not UTF-8", str(error)) from error
    if not text:
        raise DamagedSampleError("empty text")
    return text


def parse_record(content: bytes) -> dict[str, Any]:
    """Read a sample's JSON.

    Args:
        content: One JSON object.

    Returns:
        Value by key.

    Raises:
        DamagedSampleError: It is none.
    """
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedSampleError("broken record", str(error)) from error
    if not isinstance(record, dict):
        raise DamagedSampleError("broken record", f"{record!r:.80} is no object")
    return record


def caption_of(record: dict[str, Any], key: str) -> str:
    """Take a caption from a record.

    Args:
        record: What ``parse_record`` gave.
        key: Its key.

    Returns:
        The caption without the space around it.

    Raises:
        DamagedSampleError: There is none, or it is empty or no text.
    """
    if record.get(key) is None:
        raise DamagedSampleError("no text", f"the record has no {key!r}")
    text = record[key]
    if not isinstance(text, str):
        raise DamagedSampleError("no text", f"the record's {key!r} is {text!r:.80}")
    if not text.strip():
        raise DamagedSampleError("empty text")
    return text.strip()


def labels_of(record: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Take labels from a record.

    Args:
        record: What ``parse_record`` gave.
        keys: Their keys.

    Returns:
        Numbers, lists of numbers and texts by key.

    Raises:
        DamagedSampleError: One is missing, or is something else.
    """
    labels: dict[str, Any] = {}
    for key in keys:
        value = record.get(key)
        numbers = value if isinstance(value, list) else [value]
        if not isinstance(value, str) and not all(isinstance(n, int | float) for n in numbers):
            raise DamagedSampleError("broken record", f"{key!r} is {value!r:.80}, no label")
        labels[key] = value
    return labels


def class_of(content: bytes) -> int:
    """Read a ``cls`` member.

    Args:
        content: A whole number in digits.

    Returns:
        The number.

    Raises:
        DamagedSampleError: It is none.
    """
    digits = content.strip()
    if not digits.isdigit() or len(digits) > 18:
        raise DamagedSampleError("broken record", f"the class is {content[:40]!r}")
    return int(digits)
