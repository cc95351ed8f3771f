"""How far a long command is, on a terminal."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Add the option of every command that has a bar.

    Args:
        parser: The command's.
    """
    parser.add_argument(
        "--progress", action="store_true", help="show a bar though this is no terminal"
    )


def bar(total: int, unit: str, arguments: argparse.Namespace) -> tqdm[Any]:
    """Start a bar on stderr; it shows nothing where stderr is no terminal.

    Args:
        total: How many there are.
        unit: What they are, in the singular.
        arguments: Of the command, with ``progress``.

    Returns:
        The bar, to be used in a ``with``.
    """
    from tqdm import tqdm

    shown = arguments.progress or sys.stderr.isatty()
    return tqdm(
        total=total,
        unit=f" {unit}",
        file=sys.stderr,
        disable=not shown,
        dynamic_ncols=True,
        unit_scale=True,
        smoothing=0.05,
    )
