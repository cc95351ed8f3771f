"""``flava data index``: sidecars and the list of shards, so that tars can be read by place."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flava_plugin.cli.amounts import whole
from flava_plugin.cli.progress import add_progress, bar

if TYPE_CHECKING:
    from flava_plugin.data.shards.indexing import Indexed
    from flava_plugin.data.shards.manifest import Manifest


def add_action(actions: Any) -> None:
    """Add the action to the group.

    Args:
        actions: What ``ArgumentParser.add_subparsers`` of the group returned.
    """
    index = actions.add_parser(
        "index",
        help="index a folder of tars (WebDataset, img2dataset), so that a run can read it",
        description="Write a sidecar (*.tar.idx) beside every tar below a folder and the list of "
        "them, shards.index, at its top. Damaged samples are counted and keep their places. Tars "
        "that have not changed are not read again, so it can be stopped and run again.",
    )
    index.add_argument("folder", type=Path, help="folder of *.tar, at any depth")
    index.add_argument(
        "--kind",
        choices=["pair", "image", "text"],
        default="pair",
        help="what a sample has to hold (%(default)s)",
    )
    index.add_argument(
        "--caption-key",
        default="caption",
        metavar="KEY",
        help="of the caption in a sample's JSON, where it has no text member (%(default)s)",
    )
    index.add_argument("--jobs", type=whole, default=1, help="processes (%(default)s)")
    index.add_argument("--json", action="store_true", help="print the result as JSON")
    add_progress(index)
    index.set_defaults(run=run_index)


def run_index(arguments: argparse.Namespace) -> int:
    """Index a folder and say what is in it.

    Args:
        arguments: As ``add_action`` declares them.

    Returns:
        0 done, though there be damaged samples; 1 nothing can be read; 2 there is no such folder.
    """
    if not arguments.folder.is_dir():
        what = "is a file; name its folder" if arguments.folder.exists() else "no such folder"
        print(f"flava data index: {arguments.folder}: {what}", file=sys.stderr)
        return 2
    from flava_plugin.data.shards.indexing import find_tars, index_folder

    found = _Found()
    try:
        with bar(len(find_tars(arguments.folder)), "shard", arguments) as shown:

            def note(done: Indexed, _: int) -> None:
                found.add(done)
                shown.update(1)

            manifest = index_folder(
                arguments.folder,
                kind=arguments.kind,
                caption_key=arguments.caption_key,
                jobs=arguments.jobs,
                progress=note,
            )
    except (ValueError, OSError) as error:
        print(f"flava data index: {error}", file=sys.stderr)
        return 1
    result = found.result(arguments.folder, manifest)
    if arguments.json:
        print(json.dumps(result))
    else:
        print(_text(arguments.folder, result))
    if not result["sound"]:
        print(f"flava data index: {arguments.folder}: no sample can be read", file=sys.stderr)
    return 0 if result["sound"] else 1


class _Found:
    """What the shards have shown so far."""

    def __init__(self) -> None:
        self.kept = 0
        self.passed_over = 0
        self.passed = ""
        self.examples: dict[str, str] = {}
        self._unnamed: dict[str, str] = {}

    def add(self, done: Indexed) -> None:
        self.kept += done.kept
        self.passed_over += done.passed_over
        if done.passed and not self.passed:
            self.passed = f"{done.entry.name}: {done.passed[0]}"
        for fault in done.faults:
            self.examples.setdefault(fault.reason, f"{done.entry.name}: {fault.detail}")
        for reason in done.counts:
            self._unnamed.setdefault(reason, done.entry.name)

    def result(self, folder: Path, manifest: Manifest) -> dict[str, Any]:
        """Everything, as JSON has it."""
        faults = dict(manifest.faults or {})
        samples = int(manifest.samples.sum())
        for reason in faults.keys() - self.examples.keys():  # of tars indexed before
            self.examples[reason] = _first(folder, self._unnamed[reason], manifest.kind, reason)
        return {
            "shards": len(manifest),
            "kept": self.kept,
            "samples": samples,
            "sound": samples - sum(faults.values()),
            "bytes": int(manifest.sizes.sum()),
            "faults": faults,
            "examples": {reason: self.examples[reason] for reason in faults},
            "passed_over": self.passed_over,
            "first_passed_over": self.passed,
            "fingerprint": manifest.fingerprint,
        }


def _first(folder: Path, name: str, kind: Any, reason: str) -> str:
    """Name a tar's first sample that is damaged in this way, by its index."""
    import numpy as np

    from flava_plugin.data.shards.index_file import (
        ROW_DTYPE,
        SUFFIX,
        decode_index,
        first_reason,
    )

    _, rows = decode_index((folder / (name + SUFFIX)).read_bytes(), name)
    flags = np.frombuffer(rows, ROW_DTYPE)["flags"].tolist()
    row = next(n for n, each in enumerate(flags) if first_reason(each, kind) == reason)
    return f"{name}: sample {row} of the tar"


def _text(folder: Path, result: dict[str, Any]) -> str:
    lines = [
        f"{folder}: {result['shards']} shards ({result['kept']} indexed before), "
        f"{result['samples']} samples, {result['bytes'] / 1e6:.1f} MB"
    ]
    if result["faults"]:
        lines.append(f"damaged, replaced when they are read: {sum(result['faults'].values())}")
    lines += [
        f"  {number} x {reason}, such as {result['examples'][reason]}"
        for reason, number in result["faults"].items()
    ]
    if result["passed_over"]:
        lines.append(
            f"members that belong to no sample: {result['passed_over']}, such as "
            f"{result['first_passed_over']}"
        )
    return "\n".join(lines)
