"""``flava weights``: convert weights between implementations, with a numeric check."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from flava_plugin.cli import weights_dalle, weights_merge

FORMATS = ("torchmultimodal", "hugging_face", "flava_plugin")


def add_commands(commands: Any) -> None:
    """Add the group to the parser.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    group = commands.add_parser(
        "weights", help="convert weights", description="Convert weights from and to other software."
    )
    actions = group.add_subparsers(dest="action", required=True, metavar="ACTION")
    convert = actions.add_parser(
        "convert",
        help="convert a FLAVA between torchmultimodal, Hugging Face and this package",
        description="Convert a FLAVA and check it: both implementations are built and compared on "
        "a fixed input, and a file that does not compute the same is not kept.",
    )
    convert.add_argument(
        "source",
        type=Path,
        metavar="SRC",
        help=".safetensors, .pt, .pth or .bin file, Hugging Face folder, or run folder",
    )
    convert.add_argument(
        "target",
        type=Path,
        metavar="DST",
        help=".safetensors or .pt file; for hugging_face a folder",
    )
    convert.add_argument(
        "--from", dest="origin", choices=FORMATS, help="whose names SRC has (guessed from them)"
    )
    convert.add_argument("--to", dest="goal", choices=FORMATS, required=True, help="whose to write")
    convert.add_argument(
        "--model-only", action="store_true", help="write the model without the heads"
    )
    convert.add_argument(
        "--heads",
        type=_heads,
        metavar="N or I,T,M",
        help="attention heads of all encoders, or of image, text and multimodal encoder, where SRC "
        "does not say (width / 64)",
    )
    convert.add_argument("--force", action="store_true", help="replace DST")
    convert.set_defaults(run=run_convert)
    weights_dalle.add_command(actions)
    weights_merge.add_command(actions)


def _heads(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    numbers = [int(part) if part.isdecimal() else 0 for part in parts]
    if len(numbers) not in (1, 3) or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is neither a number above 0 nor three of them")
    image, text_heads, fused = numbers if len(numbers) == 3 else numbers * 3
    return (image, text_heads, fused)


def run_convert(arguments: argparse.Namespace) -> int:
    """Convert weights, print the comparison.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        0 done, 1 the result does not compute the same or cannot be written, 2 refused.
    """
    from flava_plugin.cli.weights_convert import convert
    from flava_plugin.cli.weights_target import DifferentError

    try:
        convert(
            arguments.source,
            arguments.target,
            origin=arguments.origin,
            goal=arguments.goal,
            model_only=arguments.model_only,
            heads=arguments.heads,
            force=arguments.force,
        )
    except DifferentError as error:
        print(f"flava weights convert: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"flava weights convert: {error}", file=sys.stderr)
        return 2
    return 0
