"""``--sweep key=a,b``: the product of some overrides, an element of the array for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

from flava_plugin.launch.checks_folder import LONGEST_NAME

MOST = 1000
"""SLURM's default for the longest array (MaxArraySize 1001)."""


def split(axis: str) -> tuple[str, list[str]]:
    """Take ``key=a,b`` apart; commas inside brackets and quotes separate nothing.

    Args:
        axis: What stood after ``--sweep``.

    Returns:
        The key and its values.

    Raises:
        ValueError: It is no such list, or a value is empty or stands twice.
    """
    key, separator, text = axis.partition("=")
    key = key.strip()
    if not separator or not key or not text.strip():
        raise ValueError("write key=value,value, such as optim.lr=1e-3,5e-4")
    if key == "run_dir":
        raise ValueError("each element has a folder of its own in run_dir already")
    values, depth, quote, current = [], 0, "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        if letter == "," and not depth and not quote:
            values.append(current.strip())
            current = ""
        else:
            current += letter
    values.append(current.strip())
    if "" in values:
        raise ValueError("a value is empty")
    if len(set(values)) < len(values):
        raise ValueError("a value stands twice")
    return key, values


def elements(axes: Sequence[str]) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Multiply the axes out.

    Args:
        axes: What stood after each ``--sweep``.

    Returns:
        Name and overrides of each element; and a line for each error.
    """
    parts, errors = [], []
    for axis in axes:
        try:
            parts.append(split(axis))
        except ValueError as error:
            errors.append(f"--sweep {axis}: {error}")
    keys = [key for key, _ in parts]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        errors.append(f"--sweep {key}: stands twice; give all of its values at once")
    total = 1
    for _, values in parts:
        total *= len(values)
    if total > MOST:
        errors.append(f"--sweep: {total} elements; SLURM's arrays have at most {MOST}")
    if errors:
        return [], errors
    found = []
    for choice in product(*(values for _, values in parts)):
        pairs = [f"{key}={value}" for key, value in zip(keys, choice, strict=True)]
        found.append(("_".join(map(_as_name, pairs)), pairs))
    names = [name for name, _ in found]
    for name in sorted({name for name in names if names.count(name) > 1}):
        errors.append(f"--sweep: two elements would share the folder '{name}'")
    for name in names:
        if len(name) > LONGEST_NAME:  # ASCII alone
            errors.append(f"--sweep: the folder's name would be too long: '{name[:60]}...'")
    return found, errors


def _as_name(pair: str) -> str:
    return re.sub(r"[^A-Za-z0-9._=+-]+", "-", pair).strip("-")
