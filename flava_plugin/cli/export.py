"""``flava export``: the encoders of a run as ONNX or torch.export files, checked."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "export", help="write a run's encoders as ONNX or torch.export files, checked"
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="folder of a training")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to make")
    parser.add_argument(
        "--part",
        choices=["image", "text", "fused", "all"],
        default="all",
        help="which encoder (default: all there are)",
    )
    parser.add_argument(
        "--format", choices=["onnx", "torch_export"], default="onnx", help="default: onnx"
    )
    parser.add_argument(
        "--checkpoint", default="latest", metavar="WHICH", help="latest, best or a number of steps"
    )
    parser.set_defaults(run=run_export)


def run_export(arguments: argparse.Namespace) -> int:
    """Export a run.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        0 done, 1 it cannot be written, 2 refused.
    """
    from flava_plugin.evaluate.export import export_run
    from flava_plugin.evaluate.export_parts import parts_of
    from flava_plugin.evaluate.inference import load

    try:
        flava = load(arguments.run_dir, arguments.checkpoint, device="cpu")
        whole = arguments.part == "all"
        parts = parts_of(flava.learner.backbone) if whole else (arguments.part,)
        found = export_run(flava, arguments.folder, parts, arguments.format)
    except ValueError as refused:
        print(f"flava export: {refused}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"flava export: cannot write: {error}", file=sys.stderr)
        return 1
    print(f"wrote {arguments.folder}")
    for part, gap in found.items():
        print(f"  {part}: largest difference from the model {gap:.1e}")
    return 0
