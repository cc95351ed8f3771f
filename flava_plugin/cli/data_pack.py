"""``flava data pack``: any dataset -> shards with their index."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flava_plugin.cli.amounts import budget, whole
from flava_plugin.cli.data_sources import build_dataset, name_dataset, spare_source
from flava_plugin.cli.progress import add_progress, bar

if TYPE_CHECKING:
    from flava_plugin.data.shards.packing import Packed


def add_action(actions: Any) -> None:
    """Add the action to the group.

    Args:
        actions: What ``ArgumentParser.add_subparsers`` of the group returned.
    """
    pack = actions.add_parser(
        "pack",
        help="write any dataset as indexed shards",
        description="Write a dataset as shards: plain tars of KEY.jpg and KEY.txt (KEY.json where "
        "there are labels), the key being the sample's number in the dataset, with an index. "
        "Pictures in JPEG, PNG and WebP are kept byte for byte. The same command goes on where it "
        "was stopped, and gives the same bytes whatever --jobs is.",
    )
    pack.add_argument(
        "dataset", help="a registered dataset, or a folder of pictures or of indexed shards"
    )
    pack.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="options of the dataset; of shards, labels=[...] are kept",
    )
    pack.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to")
    pack.add_argument(
        "--kind", choices=["pair", "image", "text"], help="what a sample holds (default: asks it)"
    )
    pack.add_argument(
        "--samples-per-shard", type=whole, default=10_000, metavar="N", help="(%(default)s)"
    )
    pack.add_argument(
        "--shard-mib",
        type=whole,
        default=512,
        metavar="N",
        help="a shard that has grown larger is closed (%(default)s)",
    )
    pack.add_argument("--jobs", type=whole, default=1, help="processes (%(default)s)")
    pack.add_argument(
        "--shuffle",
        type=_seed,
        default=0,
        metavar="SEED",
        help="of the order of samples, since neighbours of a crawl are alike; none keeps the "
        "dataset's (%(default)s)",
    )
    pack.add_argument(
        "--reencode",
        type=whole,
        metavar="SIZE",
        help="bring larger pictures down to so many pixels of the shorter side",
    )
    pack.add_argument(
        "--encode",
        choices=["jpg", "png", "webp"],
        help="format of pictures that are not kept as they are (jpg with --reencode, else png)",
    )
    pack.add_argument(
        "--quality", type=whole, default=92, help="of jpg and webp, to 100 (%(default)s)"
    )
    pack.add_argument(
        "--no-decode", action="store_true", help="do not decode pictures to find broken ones"
    )
    pack.add_argument(
        "--budget",
        type=budget,
        default="1%",
        metavar="N|SHARE",
        help="damaged samples that may be left out (%(default)s)",
    )
    pack.add_argument("--json", action="store_true", help="print the result as JSON")
    add_progress(pack)
    pack.set_defaults(run=run_pack)


def run_pack(arguments: argparse.Namespace) -> int:
    """Pack a dataset.

    Args:
        arguments: As ``add_action`` declares them.

    Returns:
        0 done, 1 the data does not serve, 2 the command line is refused.
    """
    try:
        _check(arguments)
        name, options = name_dataset(arguments.dataset, arguments.overrides)
        spare_source(arguments.out, options)
        dataset = build_dataset(name, options)
        _note_records(dataset)
    except ValueError as error:
        return _fail(2, error)
    from flava_plugin.data.budget import TooMuchDamageError
    from flava_plugin.data.damage import StoreError
    from flava_plugin.data.raw_reading import kind_of
    from flava_plugin.data.shards.packing import pack, plan_of
    from flava_plugin.data.shards.packing_folder import RefusedFolderError

    try:
        plan = plan_of(
            dataset,
            dataset=name,
            options=options,
            kind=arguments.kind or kind_of(dataset),
            per_shard=arguments.samples_per_shard,
            shard_bytes=arguments.shard_mib << 20,
            shuffle=arguments.shuffle,
            decode=not arguments.no_decode,
            shorter_side=arguments.reencode,
            encode=arguments.encode or ("jpg" if arguments.reencode else "png"),
            quality=arguments.quality,
        )
        with bar(plan.samples, "sample", arguments) as shown:
            packed = pack(
                dataset,
                plan,
                arguments.out,
                jobs=arguments.jobs,
                budget=arguments.budget,
                tick=shown.update,
            )
    except RefusedFolderError as error:
        return _fail(2, error)
    except TooMuchDamageError as error:
        return _fail(1, f"{error}\nwhat is packed is kept; run again with a larger --budget")
    except (ValueError, OSError, StoreError) as error:
        return _fail(1, error)
    _report(arguments, packed)
    return 0


def _note_records(dataset: Any) -> None:
    """Say that the records of shards are left behind, where nobody asked for them."""
    import numpy as np

    from flava_plugin.data.shards.index_file import (
        RECORD_IS_CLASS,
        ROW_DTYPE,
        SUFFIX,
        decode_index,
        sidecar_size,
    )
    from flava_plugin.data.shards.shard_set import ShardSet

    if not isinstance(dataset, ShardSet) or dataset.labels:
        return
    entry = dataset.manifest.entry(0)
    index = dataset.store.local(
        entry.name + SUFFIX, sidecar_size(entry.samples), entry.index_digest
    )
    _, rows = decode_index(index.read_bytes(), entry.name)
    table = np.frombuffer(rows, ROW_DTYPE)
    if (table["record_size"][table["spare"] != RECORD_IS_CLASS] > 0).any():
        print(
            "flava data pack: the samples' JSON records are left out; labels=[KEY, ...] keeps "
            "what it names",
            file=sys.stderr,
        )


def _check(arguments: argparse.Namespace) -> None:
    if arguments.quality > 100:
        raise ValueError(f"--quality {arguments.quality}: is at most 100")
    parent = arguments.out.resolve().parent
    if not parent.is_dir():
        raise ValueError(f"--out {arguments.out}: no folder {parent}; make it first")


def _seed(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no seed such as 0, nor none")
    return int(text)


def _report(arguments: argparse.Namespace, packed: Packed) -> None:
    from flava_plugin.data.shards.packing_folder import LEFT_OUT

    if arguments.json:
        print(json.dumps({"out": str(arguments.out), **vars(packed)}))
        return
    print(
        f"{arguments.out}: {packed.shards} shards, {packed.samples} samples, "
        f"{packed.size / 1e6:.1f} MB"
    )
    if packed.left_out:
        print(f"left out, named in {arguments.out / LEFT_OUT}: {sum(packed.left_out.values())}")
    for reason, number in packed.left_out.items():
        print(f"  {number} x {reason}")


def _fail(code: int, error: object) -> int:
    print(f"flava data pack: {error}", file=sys.stderr)
    return code
