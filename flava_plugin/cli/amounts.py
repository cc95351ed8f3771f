"""Numbers on the command line: read, and refused with their own words."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flava_plugin.data.budget import Budget


def whole(text: str) -> int:
    """Read a count.

    Args:
        text: The word.

    Returns:
        A whole number above 0.

    Raises:
        ArgumentTypeError: It is none.
    """
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return number


def positive(text: str) -> float:
    """Read an amount.

    Args:
        text: The word.

    Returns:
        A finite number above 0.

    Raises:
        ArgumentTypeError: It is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is no number above 0")
    return number


def share(text: str) -> float:
    """Read a part of a whole.

    Args:
        text: The word.

    Returns:
        A number above 0 and at most 1.

    Raises:
        ArgumentTypeError: It is none.
    """
    number = positive(text)
    if number > 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no share between 0 and 1")
    return number


def budget(text: str) -> Budget:
    """Read how much damage is put up with.

    Args:
        text: A number of samples, or a share such as ``0.01`` or ``1%``.

    Returns:
        The budget.

    Raises:
        ArgumentTypeError: It is neither.
    """
    from flava_plugin.data.budget import read_budget

    try:
        return read_budget(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
