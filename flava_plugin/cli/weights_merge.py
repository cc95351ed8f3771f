"""``flava weights merge``: a checkpoint that many ranks wrote in parts, as one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_command(actions: Any) -> None:
    """Add the command to the group ``weights``.

    Args:
        actions: What ``add_subparsers`` of the group returned.
    """
    parser = actions.add_parser(
        "merge",
        help="join a sharded checkpoint into whole tensors",
        description="Join a checkpoint written with checkpoint.format=sharded into a folder with "
        "model.safetensors and optim.safetensors. Training and evaluation read sharded checkpoints "
        "as they are; other programs want whole tensors.",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="run folder or checkpoint folder")
    parser.add_argument("target", type=Path, metavar="DST", help="folder to make")
    parser.add_argument(
        "--checkpoint", default="latest", metavar="WHICH", help="latest, best or a number of steps"
    )
    parser.set_defaults(run=run_merge)


def run_merge(arguments: argparse.Namespace) -> int:
    """Merge a checkpoint.

    Args:
        arguments: As ``add_command`` declares them.

    Returns:
        0 done, 1 it cannot be written, 2 refused.
    """
    from tqdm import tqdm

    from flava_plugin.train.checkpoint import STATE, find, read
    from flava_plugin.train.merging import elements, merge

    source: Path = arguments.source
    try:
        if (source / STATE).is_file():
            checkpoint = read(source)
        else:
            checkpoint = find(source, arguments.checkpoint)
        with tqdm(total=elements(checkpoint), unit="el", unit_scale=True, disable=None) as bar:
            merge(checkpoint, arguments.target, bar.update)
    except ValueError as error:
        print(f"flava weights merge: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"flava weights merge: cannot write: {error}", file=sys.stderr)
        return 1
    print(f"wrote {arguments.target}, step {checkpoint.step}")
    return 0
