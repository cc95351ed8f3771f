"""``flava data fit-codebook``: k-means over the patches of a dataset's pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from flava_plugin.cli.amounts import whole
from flava_plugin.cli.data_sources import (
    build_dataset,
    check_out,
    name_dataset,
    spare_source,
)


def add_action(actions: Any) -> None:
    """Add the action to the group.

    Args:
        actions: What ``ArgumentParser.add_subparsers`` of the group returned.
    """
    fit = actions.add_parser(
        "fit-codebook",
        help="fit a codebook of patches to pictures",
        description="Fit k-means to the patches of a dataset's pictures. The file is for "
        "model.codebook: {type: kmeans_patches, path: FILE}.",
    )
    fit.add_argument("dataset", help="a folder of pictures, or a registered dataset's name")
    fit.add_argument("options", nargs="*", metavar="key=value", help="options of the dataset")
    fit.add_argument("--out", type=Path, required=True, help="file to write (.safetensors)")
    fit.add_argument("--codes", type=whole, default=256, help="number of codes (%(default)s)")
    fit.add_argument(
        "--patch-size", type=whole, default=8, help="pixels of a patch's side (%(default)s)"
    )
    fit.add_argument(
        "--image-size", type=whole, default=112, help="data.image.codebook_size (%(default)s)"
    )
    fit.add_argument(
        "--images", type=whole, default=2000, help="pictures to fit to, at most (%(default)s)"
    )
    fit.add_argument("--seed", type=int, default=0, help="of the start (%(default)s)")
    fit.set_defaults(run=run_fit_codebook)


def run_fit_codebook(arguments: argparse.Namespace) -> int:
    """Fit a codebook and write its file.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        0 done, 1 the data does not serve, 2 the command line is refused.
    """
    try:
        check_out(arguments.out)
        name, options = name_dataset(arguments.dataset, arguments.options)
        spare_source(arguments.out, options, only_same=True)
        dataset = build_dataset(name, options)
    except ValueError as error:
        print(f"flava data fit-codebook: {error}", file=sys.stderr)
        return 2
    from flava_plugin.data.damage import StoreError
    from flava_plugin.data.fit_codebook import fit_codebook, write_codebook

    try:
        book, info = fit_codebook(
            dataset,
            codes=arguments.codes,
            patch_size=arguments.patch_size,
            image_size=arguments.image_size,
            images=arguments.images,
            seed=arguments.seed,
            source=" ".join([arguments.dataset, *arguments.options]),
        )
    except (ValueError, OSError, StoreError) as error:
        print(f"flava data fit-codebook: {error}", file=sys.stderr)
        return 1
    write_codebook(arguments.out, book, info)
    print(f"{arguments.out}: {len(book)} codes of {info.patch_size} x {info.patch_size} pixels")
    return 0
